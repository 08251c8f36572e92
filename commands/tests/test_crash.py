"""A worker may die at any line. Whoever comes next brings the command to its end, and each service works once."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import requests  # noqa: TID251 - asks the runner itself
from django.conf import settings
from django.db import OperationalError, connection
from django.test import override_settings
from django.utils import timezone

from commands.models import Command, CommandResult, StageRun
from commands.pipeline import engine, stage
from commands.services import command_submit
from commands.states import Stage, Status
from conftest import SandboxService, drive, drive_until
from files.models import StoredFile
from integrations.clients.archive import ArchiveClient
from integrations.clients.runner import RunnerClient

pytestmark = pytest.mark.django_db(transaction=True)

OURS = tuple(str(Path(settings.BASE_DIR, app)) for app in ("commands", "files", "integrations"))


class Killed(BaseException):
    """Stands for a SIGKILL: nothing in the code catches it, and what was not committed is rolled back."""


class LineCounter:
    """Counts the lines of our code that are executed, and dies at the one it is told to."""

    def __init__(self, die_at: int | None) -> None:
        self.lines = 0
        self.die_at = die_at

    def trace(self, frame: FrameType, event: str, arg: Any) -> Any:
        filename = frame.f_code.co_filename
        if not filename.startswith(OURS) or "/tests/" in filename:
            return None
        if event == "line":
            self.lines += 1
            if self.lines == self.die_at:
                raise Killed
        return self.trace


@contextmanager
def dying_at(line: int | None) -> Iterator[LineCounter]:
    counter = LineCounter(line)
    before = sys.gettrace()
    sys.settrace(counter.trace)
    try:
        yield counter
    except Killed:
        sys.settrace(before)
        connection.close()  # as the death of a process does
        connection.connect()
    finally:
        sys.settrace(before)


def let_the_lease_expire(command: Command) -> None:
    past = timezone.now() - timedelta(seconds=1)
    Command.objects.filter(id=command.id, finished_at=None).update(lease_expires_at=past, due_at=past)


def check_that_nothing_is_lost_or_doubled(command: Command, sandbox: Any, *others: SandboxService) -> None:
    command.refresh_from_db()
    assert command.status == Status.COMPLETED
    for each in Stage:
        services = [service for service in (*sandbox, *others) if service.name == each]
        assert sum(service.works_of(f"{command.id}:{each}") for service in services) == 1
        assert StageRun.objects.filter(command=command, stage=each, outcome="succeeded").count() == 1
    assert not StageRun.objects.filter(command=command, finished_at=None).exists()
    seqs = list(command.events.values_list("seq", flat=True))
    assert seqs == list(range(1, command.last_seq + 1))
    assert sorted(StoredFile.objects.filter(owner=command.user).values_list("kind", flat=True)) == [
        "alt",
        "atlas",
        "last",
    ]
    assert CommandResult.objects.get(command=command).output == "hello"


def run_dying_at(line: int, alice: Any, sandbox: Any, *others: SandboxService) -> bool:
    """Return whether the worker got as far as that line before the command was done."""
    StoredFile.objects.all().delete()
    command = command_submit(user=alice, text="echo hello")
    with dying_at(line) as counter:
        drive(command)
    let_the_lease_expire(command)
    drive(command)
    check_that_nothing_is_lost_or_doubled(command, sandbox, *others)
    return counter.lines >= line


# The calls of a worker that died count for some seconds, and here a great many die within those.
many_deaths = override_settings(SERVICE_MAX_IN_FLIGHT=1_000_000)


@pytest.mark.timeout(240)  # tracing is slow
@many_deaths
def test_a_worker_that_dies_at_some_lines_loses_and_doubles_nothing(alice, sandbox):
    for line in count(7, 101):
        if not run_dying_at(line, alice, sandbox):
            break
    assert line > 400  # the way is as long as it was thought to be


@pytest.mark.slow
@pytest.mark.timeout(7200)
# Of a process that dies the kernel closes the files. Here they are left over, and the warning comes later.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@many_deaths
def test_a_worker_that_dies_at_any_line_loses_and_doubles_nothing(alice, sandbox, second_runner):
    """With another runner, which must not be given what the first one may have."""
    for line in count(1):
        if not run_dying_at(line, alice, sandbox, second_runner):
            break


def test_a_command_that_kills_every_worker_ends_as_failed(alice, api, sandbox, monkeypatch):
    def kills(*_args: Any, **_kwargs: Any) -> None:
        raise Killed

    monkeypatch.setattr("integrations.clients.segmentation.SegmentationClient.submit", kills)
    command = command_submit(user=alice, text="echo hello")
    for _ in range(20):
        try:
            engine.advance(command.id)
        except Killed:
            let_the_lease_expire(command)
    command.refresh_from_db()
    assert (command.status, command.error_code) == (Status.FAILED, "poisoned")
    assert command.stage_runs.count() == 3  # as docs/api.md says of poisoned
    path = f"/api/v2/commands/{command.id}"
    tries = api(alice).get(f"{path}/timeline").json()["results"]
    assert {each["error"]["detail"] for each in tries} == {"The gateway's worker died during this try."}
    whole = api(alice).get(path).json()["error"]
    assert whole["detail"] == "Three of the gateway's workers died over this command, one after another."


def test_the_run_of_a_command_that_killed_its_workers_is_stopped(alice, sandbox, monkeypatch):
    def kills(*_args: Any, **_kwargs: Any) -> None:
        raise Killed

    command = drive_until(
        command_submit(user=alice, text="sleep 600"),
        lambda command: command.stage_runs.filter(stage=Stage.RUNNER).exclude(remote_id="").exists(),
    )
    monkeypatch.setattr(RunnerClient, "report", kills)
    for _ in range(3):
        Command.objects.filter(id=command.id).update(due_at=timezone.now())
        with pytest.raises(Killed):
            engine.advance(command.id)
        let_the_lease_expire(command)
    engine.advance(command.id)
    command.refresh_from_db()
    assert (command.status, command.error_code) == (Status.FAILED, "poisoned")
    task = f"{sandbox.runner.url}/tasks/{command.stage_runs.get(stage=Stage.RUNNER).remote_id}"
    assert requests.get(task, timeout=5).json()["status"] == "cancelled"


def test_what_a_dead_worker_handed_over_goes_to_the_same_instance_again(alice, sandbox, settings, monkeypatch):
    others = [f"http://127.0.0.1:{port}" for port in (1, 2, 3)]
    settings.SERVICE_URLS = settings.SERVICE_URLS | {"archive": [sandbox.archive.url]}
    submit = ArchiveClient.submit

    def dies_after_it(*args: Any, **kwargs: Any) -> None:
        submit(*args, **kwargs)
        monkeypatch.undo()
        settings.SERVICE_URLS = settings.SERVICE_URLS | {"archive": [*others, sandbox.archive.url]}
        raise Killed

    monkeypatch.setattr(ArchiveClient, "submit", dies_after_it)
    command = command_submit(user=alice, text="echo hello")
    with pytest.raises(Killed):
        drive(command)
    let_the_lease_expire(command)
    drive(command)
    check_that_nothing_is_lost_or_doubled(command, sandbox)
    assert set(command.stage_runs.filter(stage=Stage.ARCHIVE).values_list("instance")) == {(sandbox.archive.url,)}


def test_a_worker_that_wakes_up_after_another_took_over_writes_nothing(alice, sandbox, monkeypatch):
    """The first one hangs in a call for longer than its lease; a second one does the work meanwhile."""
    command = command_submit(user=alice, text="echo hello")
    take_in = stage.take_in

    def while_another_works(*args: Any) -> Any:
        intake = take_in(*args)
        monkeypatch.setattr(stage, "take_in", take_in)
        let_the_lease_expire(command)
        drive(command)
        return intake

    monkeypatch.setattr(stage, "take_in", while_another_works)
    engine.advance(command.id)
    check_that_nothing_is_lost_or_doubled(command, sandbox)


def test_what_goes_wrong_after_a_commit_does_not_undo_what_was_committed(alice, sandbox, monkeypatch):
    """As when the connection drops just then: the stage has succeeded all the same."""

    def broken(*_args: Any, **_kwargs: Any) -> None:
        raise OperationalError("the connection is gone")

    monkeypatch.setattr("commands.events.events_broadcast", broken)
    command = drive(command_submit(user=alice, text="echo hello"))
    monkeypatch.undo()
    check_that_nothing_is_lost_or_doubled(command, sandbox)
    assert command.events.last().event == "completed"
