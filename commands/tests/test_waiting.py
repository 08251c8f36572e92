"""What an unfinished command waits for: each sentence with the rows that make it true."""

from datetime import UTC, datetime, timedelta

import pytest
from django.core.cache import cache
from django.utils import timezone

from commands import timeline, waiting
from commands.models import Command, CommandEvent, Outcome, StageRun
from commands.states import STATUS_OF, Stage, Status
from commands.timeline import command_timeline
from gateway.health import WORKER_SILENCE_LIMIT
from integrations.clients.breaker import FAILURES, protected
from integrations.clients.errors import Reason, TransientError
from integrations.models import ServiceInstance

pytestmark = pytest.mark.django_db

NOW = datetime(2026, 11, 24, 14, 5, 0, tzinfo=UTC)
ONE, TWO = "http://runner-1:9000", "http://runner-2:9000"


@pytest.fixture(autouse=True)
def _five_past_two(monkeypatch, settings):
    """The time stands still. The settings name no instances, and a worker of each queue was heard of just now."""
    monkeypatch.setattr(timezone, "now", lambda: NOW)
    settings.SERVICE_URLS = {"segmentation": [], "runner": [], "archive": []}
    for stage in Stage:
        heard_of(stage, ago=1)


def heard_of(stage, *, ago):
    cache.set(f"health:worker-finished-a-task-at:{stage}", (NOW - timedelta(seconds=ago)).timestamp())


def at(seconds):
    return NOW + timedelta(seconds=seconds)


def made(user, stage=Stage.RUNNER, **fields):
    """A command at this stage, due now."""
    values = {"status": STATUS_OF[stage] if stage else Status.QUEUED, "stage": stage, "due_at": NOW}
    return Command.objects.create(user=user, text="x", **(values | fields))


def tried(command, attempt=1, **fields):
    """A try of its stage, begun 100 s ago; it failed 10 s ago, unless it is said to go on."""
    failed = {"finished_at": at(-10), "outcome": Outcome.FAILED, "error_code": f"{command.stage}_unavailable"}
    values = {} if fields.get("remote_id") or fields.pop("goes_on", False) else failed
    values |= {"instance": ONE, "attempt": attempt} | fields
    run = StageRun.objects.create(command=command, stage=command.stage, **values)
    StageRun.objects.filter(pk=run.pk).update(started_at=at(-100))
    return run


def instance(url=ONE, *, ill_since=None, kind="runner", **fields):
    health = {"is_healthy": ill_since is None, "health_since": ill_since, "checked_at": NOW}
    return ServiceInstance.objects.create(kind=kind, base_url=url, source="admin", **(health | fields))


def told(command):
    return command_timeline(command=command).waiting_for


def test_what_has_ended_waits_for_nothing(alice):
    ended = made(alice, status=Status.FAILED, stage=None, finished_at=NOW, due_at=None)
    assert told(ended) is None


# --- in the queue ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "sentence"),
    [
        (1, "It is the next that a worker of the segmentation queue takes up."),
        (12, "It is number 12 in the segmentation queue."),
        (1000, "At least 999 commands are before it in the segmentation queue."),
        (None, "A worker of the segmentation queue is to take it up."),
    ],
)
def test_its_place_in_the_queue(alice, monkeypatch, place, sentence):
    monkeypatch.setattr(waiting, "queue_place", lambda _command: place)
    assert told(made(alice, stage=None)) == sentence


def test_it_is_held_back_by_the_limit_of_its_owner(alice, monkeypatch):
    monkeypatch.setattr(waiting, "held_behind", lambda _command: (5, 5, 2))
    assert told(made(alice, stage=None)) == (
        "It is held back: its owner has 5 commands in flight, and the limit is 5; 2 more of theirs go first."
    )


def test_nobody_is_there_to_take_it_up(alice):
    """Only once it is due for longer than a living worker is silent."""
    command = made(alice, due_at=at(-WORKER_SILENCE_LIMIT - 1))
    heard_of(Stage.RUNNER, ago=600)
    assert told(command) == (
        "It has been due since 14:04:39 UTC, but no worker of the runner queue has been heard of since 13:55:00 UTC."
    )
    cache.clear()
    assert told(command) == (
        "It has been due since 14:04:39 UTC, but no worker of the runner queue has been heard of for a long time."
    )
    command.due_at = at(-WORKER_SILENCE_LIMIT + 1)
    assert "heard of" not in told(command)
    command.due_at = at(-WORKER_SILENCE_LIMIT - 1)
    heard_of(Stage.RUNNER, ago=WORKER_SILENCE_LIMIT - 1)
    assert "heard of" not in told(command)


def test_the_worker_that_had_it_died(alice):
    command = made(alice, lease_owner="host:1:x", lease_expires_at=at(-3))
    assert told(command) == (
        "The worker that had it has not been heard of since 14:04:57 UTC; another one is to take it over."
    )


def test_a_worker_is_at_it(alice):
    command = made(alice, lease_owner="host:1:x", lease_expires_at=at(10), due_at=at(-60))
    assert told(command) == "A worker of the runner queue is at it."
    tried(command, goes_on=True)
    assert told(command) == (f"A worker has been handing it to the runner service at {ONE} since 14:03:20 UTC.")


# --- a service has it -----------------------------------------------------------------------------------------------


def test_the_runner_has_it(alice):
    command = made(alice, progress=46, due_at=at(5))
    run = tried(command, remote_id="task-1")
    assert told(command) == (
        f"The runner service at {ONE} has been working on it since 14:03:20 UTC; the command is at 46 %."
    )
    run.reported = {"remote_id": "task-1", "state": "done"}
    run.save(update_fields=["reported"])
    assert told(command) == f"The runner service at {ONE} says that it is done; its answer is being fetched."


def test_the_runner_has_it_and_does_not_answer(alice, settings):
    settings.STAGE_RETRY_WINDOW = 30.0
    command = made(alice, due_at=at(2))
    tried(command, remote_id="task-1", unanswered_since=at(-8))
    assert told(command) == (
        f"The runner service at {ONE} has the work, but has not answered since 14:04:52 UTC;"
        " it is asked again until 14:05:22 UTC."
    )


# --- no instance can take it ----------------------------------------------------------------------------------------


@pytest.fixture
def failing(alice):
    """A command whose first try found nobody; the next is due in 10 s."""
    command = made(alice, due_at=at(10))
    tried(command)
    return command


def test_no_instance_is_registered(failing):
    instance(left_at=at(-60))
    instance(kind="archive")
    assert told(failing) == ("It waits for a runner instance: none is registered. The next try is due at 14:05:10 UTC.")


def test_no_instance_has_the_tag(failing):
    instance()
    instance(kind="runner", url=TWO, tags=["gpu"], left_at=at(-60))
    failing.target = "gpu"
    assert told(failing) == (
        "It waits for a runner instance with the tag “gpu”: none that is registered has it."
        " The next try is due at 14:05:10 UTC."
    )


def test_all_instances_are_draining_or_disabled(failing):
    instance(is_draining=True)
    instance(TWO, is_disabled=True)
    assert told(failing) == (
        "It waits for a runner instance that takes work: 2 of 2 are draining or disabled."
        " The next try is due at 14:05:10 UTC."
    )


def test_all_instances_are_down(failing):
    """Since the last of them went down. One that sends no heartbeat any more is down too."""
    instance(ill_since=at(-600))
    second = instance(TWO, time_to_live=15, heartbeat_at=at(-195))
    assert told(failing) == (
        "It waits for a healthy runner instance: 2 of 2 are down since 14:02:00 UTC."
        " The next try is due at 14:05:10 UTC."
    )
    instance("http://runner-3", is_disabled=True)
    assert told(failing) == (
        "It waits for a healthy runner instance: 2 of 2 are down since 14:02:00 UTC, and 1 more are draining or"
        " disabled. The next try is due at 14:05:10 UTC."
    )
    ServiceInstance.objects.filter(pk=second.pk).update(time_to_live=None, is_healthy=None, health_since=None)
    assert told(failing) == (
        "It waits for a healthy runner instance: 2 of 2 are down. The next try is due at 14:05:10 UTC."
    )
    ServiceInstance.objects.filter(pk=second.pk).update(is_healthy=True)
    assert "down" not in told(failing)


def test_only_instances_with_the_tag_count(failing):
    instance(ill_since=at(-600), tags=["gpu"])
    instance(TWO)
    assert "down" not in told(failing)
    failing.target = "gpu"
    assert "1 of 1 are down since 13:55:00 UTC" in told(failing)


def test_the_day_is_told_if_it_is_another(failing):
    instance(ill_since=at(-86400))
    assert "down since 2026-11-23 14:05:00 UTC" in told(failing)


def test_the_breakers_of_all_are_open(failing):
    instance()
    for _ in range(FAILURES):
        with pytest.raises(TransientError), protected(ONE, "POST"):
            raise TransientError(Reason.TIMEOUT, no_answer=True)
    assert told(failing) == (
        "The runner instances are left alone for a moment, after calls that failed."
        " The next try is due at 14:05:10 UTC."
    )


def test_before_the_first_try_nobody_has_looked_for_an_instance(alice):
    assert "registered" not in told(made(alice))


def test_the_service_is_busy(alice, settings):
    settings.SERVICE_MAX_IN_FLIGHT = 4
    instance()
    command = made(alice, due_at=at(10))
    tried(command, error_code="runner_busy", not_taken=True)
    assert told(command) == (
        "Since 14:03:20 UTC it waits for the runner service, which has as many calls as it may have at once"
        " (4 for each instance). The next try is due at 14:05:10 UTC."
    )


def test_the_next_try_is_due(failing):
    instance()
    tried(failing, attempt=2, error_code="runner_timeout", error_cause="no answer in 10 s")
    assert told(failing) == (
        "Try 3 of the runner stage is due at 14:05:10 UTC. The one before: The runner service did not answer in time."
        " (no answer in 10 s)"
    )
    failing.due_at = at(-1)  # now it is in the queue
    assert told(failing) == "It is the next that a worker of the runner queue takes up."


def test_tries_of_an_earlier_stage_say_nothing(failing):
    failing.stage, failing.status, failing.due_at = Stage.ARCHIVE, Status.ARCHIVING, at(-1)
    assert told(failing) == "It is the next that a worker of the archive queue takes up."


def test_when_it_is_looked_at_again(alice, monkeypatch):
    monkeypatch.setattr(waiting, "queue_place", lambda _command: None)
    assert told(made(alice, due_at=at(60))) == "A worker of the runner queue looks at it at 14:06:00 UTC."


# --- its end --------------------------------------------------------------------------------------------------------


def asked_to_stop(command, **data):
    """Let the command be cancelling since 5 s ago."""
    command.status, command.last_seq = Status.CANCELLING, 3
    event = CommandEvent(command=command, seq=3, event="cancelling", status="cancelling", progress=0, data=data)
    CommandEvent.objects.bulk_create([event])
    CommandEvent.objects.filter(command=command).update(at=at(-5))


def test_the_runner_is_to_confirm_that_it_stopped(alice, settings):
    settings.STAGE_RETRY_WINDOW = 30.0
    command = made(alice)
    tried(command, remote_id="task-1")
    asked_to_stop(command, reason="a mistake")
    assert told(command) == (
        "It is being cancelled: since 14:04:55 UTC the runner is to confirm that it stopped. If it has not by"
        " 14:05:25 UTC, the command ends without that."
    )


@pytest.mark.parametrize("not_taken", [True, False])
def test_nobody_has_anything_to_stop(alice, not_taken):
    command = made(alice, stage=Stage.RUNNER if not_taken else Stage.ARCHIVE)
    tried(command, not_taken=not_taken)
    asked_to_stop(command)
    assert told(command) == f"It is being cancelled: a worker of the {command.stage} queue is to end it."


def test_the_deadline(failing):
    instance()
    failing.deadline = at(3600)
    assert told(failing).endswith("be reached. It is stopped if it has not ended by 15:05:00 UTC.")
    failing.deadline = at(-60)
    assert told(failing) == "Its deadline passed at 14:04:00 UTC; a worker of the runner queue is to end it."


# --- the rest of the timeline ---------------------------------------------------------------------------------------


def test_the_next_try_and_the_instances(failing):
    row = instance(ill_since=at(-600))
    found = command_timeline(command=failing)
    assert found.next_try_at == at(10)
    assert [found.service_of(run) for run in found.runs] == [row]
    asked_to_stop(failing)
    assert command_timeline(command=failing).next_try_at is None


@pytest.mark.parametrize(
    ("asked", "status", "code", "state"),
    [
        ("cancelling", Status.CANCELLING, "", "pending"),
        ("cancelled", Status.CANCELLED, "", "not_begun"),
        ("cancelling", Status.CANCELLED, "", "stopped"),
        ("cancelling", Status.CANCELLED, "cancel_unconfirmed", "unconfirmed"),
        ("cancelling", Status.FAILED, "cancel_unconfirmed", "unconfirmed"),
        ("cancelling", Status.COMPLETED, "", "too_late"),
        ("running", Status.COMPLETED, "", None),
    ],
)
def test_how_a_cancellation_went(alice, asked, status, code, state):
    command = made(alice)
    asked_to_stop(command, reason="a mistake")
    command.events.update(event=asked)
    command.status, command.error_code = status, code
    found = command_timeline(command=command).cancellation
    assert (found and found.state) == state
    if found:
        assert (found.requested_at, found.reason) == (at(-5), "a mistake")


def test_a_cancellation_is_looked_for_among_the_last_events_alone(alice):
    """There may be ten thousand."""
    command = made(alice)
    asked_to_stop(command)
    command.last_seq = 3 + timeline.LAST_EVENTS
    assert command_timeline(command=command).cancellation is None


def test_everything_costs_as_many_queries_with_much_as_with_little(alice, django_assert_max_num_queries):
    command = made(alice, due_at=at(10))
    for attempt in range(1, 40):
        tried(command, attempt=attempt, instance=f"http://runner-{attempt}")
        instance(f"http://runner-{attempt}", ill_since=at(-600))
    with django_assert_max_num_queries(2):
        assert "39 of 39 are down" in told(command)
