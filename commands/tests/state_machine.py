"""Runs one interleaving of workers, clients, callbacks, sweeps, time and deaths, and says which promise it broke."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from itertools import cycle, pairwise
from typing import Any
from unittest.mock import patch

from celery import Celery, current_app
from django.db import transaction
from django.test import override_settings
from django.utils import timezone

from accounts.models import User
from commands import tasks, transitions
from commands.events import command_event_recorded
from commands.models import Command
from commands.services import command_cancel, command_submit, runner_report
from commands.states import TRANSITIONS, Stage, Status
from commands.tests.fake_services import URLS, FakeClient, fakes
from commands.tests.interleaving import Turn, Turns
from gateway.api.errors import ApiError
from integrations.clients import dialects
from integrations.clients.base import WorkState

THREADS = 8
OTHERS = ("cancel", "callback", "sweep", "duplicate")
STEPS, IDLE = 600, 6  # then all is let run to its end
OF_THREADS = 24  # choices below this one are of a thread
ROUNDS = 60
LONGER_THAN_A_LEASE = 60.0
UNTIL_CLAIMED = 2  # stops of a worker that begins

Message = tuple[str, tuple[Any, ...]]
Job = Callable[[], Any]


@dataclass(frozen=True)
class Other:
    """Somebody besides the workers, who comes at that step or later."""

    actor: str
    not_before: int


WORKER = Other("worker", 0)  # comes whenever there is a message


@dataclass(frozen=True)
class Schedule:
    """What hypothesis chooses. All of it is plain, so that it shrinks well."""

    others: list[Other]
    turns: list[tuple[int, int]]  # who of those that can go on, or may come; and for how many steps. Over and over
    deaths: frozenset[int] = frozenset()  # at which steps whoever has the turn dies
    answers: tuple[str, ...] = ()  # of services, in the order of the calls
    deadline: float | None = None  # seconds from the beginning


@dataclass
class Clock:
    """The time that the gateway sees. It passes when the schedule says so."""

    now: Any = field(default_factory=timezone.now)

    def tick(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


class Run:
    """One command, and all that is done to it."""

    def __init__(self, turns: Turns, user: User) -> None:
        self.turns, self.user = turns, user
        self.journal, self.clock = FakeClient.journal, Clock()
        self.messages: list[Message] = []
        self.last_message: Message | None = None
        self.steps = self.begun = 0
        self.broken: list[str] = []  # promises that only show at the moment of an event

    def follow(self, schedule: Schedule) -> None:
        """Let it happen, and then let everything run to its end. Raises AssertionError if a promise was broken."""
        self.turns.forget()
        self.journal.forget()
        with self._world():
            Command.objects.all().delete()
            deadline = schedule.deadline and self.clock.now + timedelta(seconds=schedule.deadline)
            self.command = command_submit(user=self.user, text="echo hello", deadline=deadline)
            self.journal.pause, self.journal.answers = self.turns.pause, iter(schedule.answers)
            self._take_turns(schedule)
            for error in self.turns.errors():
                raise AssertionError(f"{type(error).__name__}: {error}") from error
            self.check()
            self.journal.answers = iter(())
            self._let_it_end()
            self.check()
            assert self.command.has_ended, f"it never ends, and is {self.command.status}"

    @contextmanager
    def _world(self) -> Iterator[None]:
        def send_task(_app: Any, name: str, args: Any = (), **_options: Any) -> None:
            self.messages.append((name, tuple(args)))

        with (
            patch.object(Celery, "send_task", send_task),
            patch.object(timezone, "now", lambda: self.clock.now),
            patch.object(transitions, "_record", partial(self._record, transitions._record)),
            patch.object(command_event_recorded, "send_robust", lambda **_event: []),  # who listens is tested elsewhere
            patch.dict(dialects.DIALECTS, fakes()),
            override_settings(SERVICE_URLS={str(kind): urls for kind, urls in URLS.items()}),
        ):
            yield

    def _record(
        self, record: Callable[..., Any], command: Command, event: str, lease_owner: str | None, *values: Any
    ) -> Any:
        """Let it be recorded, and look whether whoever does so in the name of a lease has it."""
        with transaction.atomic():
            holder = Command.objects.select_for_update().get(id=command.id).lease_owner
            recorded = record(command, event, lease_owner, *values)
            if lease_owner not in (None, holder):
                self.broken.append(f"{event}: recorded without a lease")
            if event == Status.CANCELLED and recorded.data.get("code") != "cancel_unconfirmed" and self._at_work():
                self.broken.append(f"{event}: and the runner works on it")
        return recorded

    def _take_turns(self, schedule: Schedule) -> None:
        """Follow the turns, over and over, until there is nothing more to do or time has passed often enough."""
        others, idle = list(schedule.others), 0
        turns = cycle(schedule.turns)
        while idle < IDLE and self.steps < STEPS:
            choice, steps = next(turns)
            self.steps += 1
            if choice >= OF_THREADS:
                EVENTS[choice - OF_THREADS](self)
                continue
            under_way = self.turns.waiting()
            jobs = self._jobs(others) if len(under_way) < THREADS else []
            if not under_way and not jobs:
                idle += 1
                self._beat()
            elif (place := choice % (len(under_way) + len(jobs))) < len(under_way):
                self._go_on(under_way[place], steps, schedule.deaths)
            else:
                self._begin(others, *jobs[place - len(under_way)])
        self.turns.finish()

    def _go_on(self, turn: Turn, steps: int, deaths: frozenset[int]) -> None:
        for _ in range(steps):
            self.steps += 1
            self.turns.step(turn, dies=self.steps in deaths)
            if turn not in self.turns.waiting():
                return

    def _jobs(self, others: list[Other]) -> list[tuple[Other, Job]]:
        """Return who may come now, and what they do."""
        candidates = [WORKER] + [other for other in others if other.not_before <= self.steps]
        jobs = ((other, self._job(other.actor)) for other in candidates)
        return [(other, job) for other, job in jobs if job is not None]

    def _job(self, actor: str) -> Job | None:
        match actor:
            case "worker":
                return partial(_perform, *self.messages[0]) if self.messages else None
            case "duplicate":  # the broker delivers a message twice
                return partial(_perform, *self.last_message) if self.last_message else None
            case "cancel":
                return partial(_cancel, self.user, self.command)
            case "sweep":
                return tasks.sweep
            case _:
                news = self.journal.news(of=str(self.command.id))
                return partial(runner_report, command_id=self.command.id, body=news) if news else None

    def _begin(self, others: list[Other], other: Other, job: Job) -> None:
        if other is WORKER:
            self.last_message = self.messages.pop(0)
        else:
            others.remove(other)
        self.begun += 1
        name = f"{other.actor} {self.begun}"
        self.turns.trace.append(f"{name} comes")
        self.turns.begin(name, job)

    def _beat(self) -> None:
        """Nobody has anything to do: time passes."""
        self.tick(2.0)
        self.finish_runs()
        tasks.sweep()

    def tick(self, seconds: float) -> None:
        self.turns.trace.append(f"{seconds:g} s pass")
        self.clock.tick(seconds)

    def hang(self) -> None:
        """All that are at work hang for longer than a lease, and another worker takes over."""
        self.tick(LONGER_THAN_A_LEASE)
        self.command.refresh_from_db()
        if self.command.has_ended or len(self.turns.waiting()) >= THREADS:
            return
        before = self.turns.waiting()
        self.messages.insert(0, ("commands.tasks.advance", (str(self.command.work_stage),)))
        self._begin([], WORKER, partial(_perform, *self.messages[0]))
        [taking_over] = [turn for turn in self.turns.waiting() if turn not in before]
        self._go_on(taking_over, UNTIL_CLAIMED, frozenset())

    def finish_runs(self) -> None:
        self.turns.trace.append("runs end")
        self.journal.finish_runs()

    def _let_it_end(self) -> None:
        """Everything is well from now on: time passes, sweeps come, and workers do what they are sent for."""
        for _ in range(ROUNDS):
            self.clock.tick(5)
            self.journal.finish_runs()
            tasks.sweep()
            while self.messages:
                _perform(*self.messages.pop(0))
            self.command.refresh_from_db()
            if self.command.has_ended:
                return

    def check(self) -> None:
        """What holds at any time when nothing is under way."""
        command = self.command
        command.refresh_from_db()
        assert self.broken == []
        events = list(command.events.order_by("seq").values_list("seq", "status"))
        seqs, statuses = [seq for seq, _status in events], [Status(status) for _seq, status in events]
        assert seqs == list(range(1, command.last_seq + 1)), f"numbers {seqs}"
        assert statuses[-1] == command.status, f"is {command.status}, and its last event says {statuses[-1]}"
        for before, after in pairwise(statuses):
            assert before == after or after in TRANSITIONS[before], f"{before} -> {after}"
        runs = list(command.stage_runs.all())
        is_open = [run for run in runs if run.finished_at is None]
        assert len(is_open) <= (0 if command.has_ended else 1), f"open: {[str(run) for run in is_open]}"
        for stage in Stage:
            done = self.journal.done_for(f"{command.id}:{stage}")
            assert done <= 1, f"{stage} was done {done} times"
            good = [run for run in runs if run.stage == stage and run.outcome == "succeeded"]
            assert len(good) <= done, f"{stage} succeeded {len(good)} times, and was done {done} times"
        if command.has_ended:
            self._check_end(command)

    def _at_work(self) -> bool:
        runs = self.journal.runs(of=str(self.command.id))
        return any(run["state"] is WorkState.WORKING for run in runs)

    def _check_end(self, command: Command) -> None:
        held = (command.lease_owner, command.lease_expires_at, command.due_at)
        assert held == ("", None, None), f"it has ended, and is held: {held}"
        if command.status == Status.COMPLETED:
            assert command.last_file is not None, "completed without a result"
        if command.status == Status.CANCELLED and command.error_code != "cancel_unconfirmed":
            assert not self._at_work(), "it is cancelled, and the runner works on it"


# What else a choice may stand for.
EVENTS: tuple[Callable[[Run], None], ...] = (
    Run.finish_runs,
    *(partial(Run.tick, seconds=seconds) for seconds in (0.5, 4.0)),
    Run.hang,
    Run.hang,
)


def _perform(task: str, args: tuple[Any, ...]) -> None:
    """Do what a message asks for."""
    current_app.tasks[task].run(*args)


def _cancel(user: User, command: Command) -> None:
    try:
        command_cancel(command=Command.objects.get(user=user, id=command.id))
    except ApiError as error:
        if error.get_codes() != "command_not_cancellable":
            raise
