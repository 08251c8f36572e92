"""Commands through services of other dialects: real processes, and a folder that each side sees at another place."""

import json
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import requests  # noqa: TID251 - compares with what the service itself hands out
from django.utils import timezone

from commands.models import Command, StageRun
from commands.pipeline import engine
from commands.services import command_cancel, command_submit
from commands.states import Stage, Status
from commands.tests.test_crash import Killed, let_the_lease_expire
from commands.tests.test_steps import done, post, step_of
from conftest import Sandbox, drive, drive_until, start_service
from files.selectors import file_text
from gateway.embedded.children import stop
from integrations.clients.shared_folder import SharedFolder

# One worker of xdist runs these, so that there is one set of processes.
pytestmark = pytest.mark.django_db(transaction=True)


@dataclass
class Services(Sandbox):
    folder: Path  # as the gateway sees it
    folder_there: Path  # as the services do

    def runs_of(self, command: Command) -> int:
        return self.runner.works_of(f"{command.id}:runner")

    def results_of(self, command: Command) -> list[dict[str, Any]]:
        results = [json.loads(path.read_text()) for path in self.folder.glob("last_*.json")]
        return [result for result in results if result["alt_file_id"].startswith(f"{command.id}_runner-")]

    def record(self, command: Command, what: str, number: int = 1) -> Path:
        return self.folder / f".{command.id}_runner-{number}.{what}"


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    state = tmp_path_factory.mktemp("dialects")
    folder, there = state / "shared", state / "mounted-elsewhere"
    folder.mkdir()
    there.symlink_to(folder)
    options = ("--dialect", "b", "--shared-dir", str(there))
    children = [start_service(name, state, *options) for name in ("segmentation", "runner", "archive")]
    segmentation, runner, archive = (service for service, _child in children)
    yield Services(segmentation, runner, archive, folder, there)
    stop(child for _service, child in children)


@pytest.fixture
def services(processes: Services, settings: Any) -> Iterator[Services]:
    kinds = ("segmentation", "runner", "archive")
    settings.SERVICE_URLS = {service.name: [service.url] for service in processes}
    settings.SERVICE_DIALECTS = dict.fromkeys(kinds, "b")
    settings.SERVICE_SHARED_DIRS = dict.fromkeys(kinds, str(processes.folder))
    settings.SERVICE_REMOTE_DIRS = dict.fromkeys(kinds, str(processes.folder_there))
    yield processes
    for service in processes:
        service.behave()


def eventually(happened: Callable[[], Any]) -> Any:
    pause = threading.Event()
    for _ in range(4000):
        value = happened()
        if value:
            return value
        pause.wait(0.005)
    raise AssertionError("it did not happen in time")


def at_the_runner(command: Command) -> bool:
    return command.stage_runs.filter(stage=Stage.RUNNER).exclude(remote_id="").exists()


def finish(command: Command, services: Services) -> Command:
    """Work on a command until it ends. While the runner works there is nothing to ask it, so wait for its result."""
    drive_until(command, at_the_runner)
    eventually(lambda: services.results_of(command))
    return drive(command)


def outcomes(command: Command) -> list[tuple[str, str]]:
    return list(command.stage_runs.filter(stage=Stage.RUNNER).values_list("outcome", "error_code"))


def age(path: Path, seconds: float = 86400) -> None:
    then = path.stat().st_mtime - seconds
    os.utime(path, (then, then))


def test_a_command_goes_through_services_that_all_speak_otherwise(alice, services):
    values = {"mode": "explore", "persona": "researcher", "priority": "normal", "parameters": {"depth": 3}}
    command = finish(command_submit(user=alice, text="echo Merhaba dünya ve ardından calc 6*7", **values), services)
    assert command.status == Status.COMPLETED
    assert command.result.output == "Merhaba dünya\n42"
    assert [file.kind for file in command.files] == ["alt", "last", "atlas"]
    assert [services.runs_of(command), len(services.results_of(command))] == [1, 1]
    assert "mode: Explore" in file_text(command.alt_file)

    handed_over = json.loads((services.folder / f"{command.id}_runner-1.alt").read_text())
    assert {name: handed_over[name] for name in ("id", "mode", "persona", "priority")} == {
        "id": f"{command.id}_runner-1",
        "mode": "explore",
        "persona": "researcher",
        "priority": "medium",
    }
    assert len(handed_over["tasks"]) == 2
    assert handed_over["metadata"]["parameters"] == {"depth": 3}
    last = json.loads(file_text(command.last_file))
    assert (last["mode"], last["persona"], last["metadata"]["priority"]) == ("explore", "researcher", "medium")
    archived = command.stage_runs.get(stage=Stage.ARCHIVE).remote_id
    entry = requests.get(f"{services.archive.url}/atlas/{archived}", timeout=5).json()
    assert json.loads(file_text(command.atlas_file)) == entry


def test_steps_by_themselves_and_the_search_speak_as_the_services_do(alice, api, services):
    client = api(alice)
    split, _alt = done(client, "segmentation", {"text": "echo kirpi"})
    step = step_of(post(client, "runner", {"file": split["file"]["id"]}))
    finish(step, services)
    run = client.get(f"/api/v2/runner/{step.id}").json()
    archived, _atlas = done(client, "archive", {"file": run["file"]["id"], "tags": ["boz"]})
    found = client.get("/api/v2/archive/search", {"q": "kirpi", "tags": "boz"}).json()["results"]
    assert [entry["file"]["id"] for entry in found] == [archived["file"]["id"]]


def test_a_run_that_fails_fails_the_command_and_keeps_what_it_left(alice, services):
    command = finish(command_submit(user=alice, text="fail the disk is full"), services)
    assert (command.status, command.error_code) == (Status.FAILED, "runner_failed")
    assert command.result.tasks[0]["error"] == "the disk is full"
    assert command.atlas_file is None


def test_segmentation_a_is_the_standard_with_less_said(alice, sandbox, settings):
    settings.SERVICE_DIALECTS = settings.SERVICE_DIALECTS | {"segmentation": "a"}
    command = drive(command_submit(user=alice, text="echo hello"))
    assert command.status == Status.COMPLETED
    assert command.alt_file.name.startswith("task_")


class TestNobodyKnowsWhetherItBegan:
    def test_a_lost_answer_runs_nothing_twice(self, alice, services):
        services.runner.fault("lost_answer", path="/api/v1/process", times=1)
        command = finish(command_submit(user=alice, text="echo hello"), services)
        assert command.status == Status.COMPLETED
        assert services.runs_of(command) == 1
        assert outcomes(command) == [("succeeded", "")]
        assert not services.record(command, "accepted").exists()

    @pytest.mark.parametrize(
        "options", [{"kind": "fail", "status": 500}, {"kind": "fail", "status": 503}, {"kind": "garbage"}]
    )
    def test_what_left_no_result_for_long_is_handed_over_again(self, alice, services, options):
        services.runner.fault(**options, path="/api/v1/process", times=1)
        command = drive_until(command_submit(user=alice, text="echo hello"), at_the_runner)
        engine.advance(command.id)
        assert services.runs_of(command) == 0  # it is waited for
        age(services.record(command, "claim"))
        drive_until(command, lambda command: command.stage_runs.filter(error_code="runner_not_found").exists())
        drive_until(command, lambda command: command.stage_runs.filter(stage=Stage.RUNNER).count() == 2)
        command = finish(command, services)
        assert command.status == Status.COMPLETED
        assert services.runs_of(command) == 1
        assert outcomes(command) == [("failed", "runner_not_found"), ("succeeded", "")]
        assert services.results_of(command)[0]["alt_file_id"].endswith("_runner-2")

    def test_what_it_accepted_is_never_handed_over_again(self, alice, services):
        services.runner.fault("never_finish", path="/api/v1/process", times=1)
        command = drive_until(command_submit(user=alice, text="echo hello"), at_the_runner)
        age(services.record(command, "claim"))
        for _ in range(3):
            Command.objects.filter(id=command.id).update(due_at=timezone.now())
            engine.advance(command.id)
        services.runner.behave()
        command = finish(command, services)
        assert command.status == Status.COMPLETED
        assert services.runs_of(command) == 1
        assert outcomes(command) == [("succeeded", "")]

    def test_a_late_result_of_an_earlier_hand_over_counts(self, alice, services):
        services.runner.fault("lost_answer", path="/api/v1/process", times=1)
        command = drive_until(command_submit(user=alice, text="echo hello"), at_the_runner)
        eventually(lambda: services.results_of(command))
        age(services.record(command, "claim"))
        command = drive(command)
        assert command.status == Status.COMPLETED
        assert services.runs_of(command) == 1


class TestItCertainlyDidNotBegin:
    def test_no_connection(self, alice, services, settings):
        settings.SERVICE_URLS = settings.SERVICE_URLS | {"runner": ["http://127.0.0.1:1"]}
        command = drive_until(
            command_submit(user=alice, text="echo hello"),
            lambda command: command.stage_runs.filter(error_code="runner_unavailable").exists(),
        )
        assert not services.record(command, "claim").exists()
        settings.SERVICE_URLS = settings.SERVICE_URLS | {"runner": [services.runner.url]}
        command = finish(command, services)
        assert command.status == Status.COMPLETED
        assert services.runs_of(command) == 1

    def test_it_is_busy_and_says_so(self, alice, services):
        services.runner.fault("fail", path="/api/v1/process", status=503, retry_after=0, times=1)
        command = finish(command_submit(user=alice, text="echo hello"), services)
        assert command.status == Status.COMPLETED
        assert outcomes(command) == [("failed", "runner_unavailable"), ("succeeded", "")]

    def test_it_refuses(self, alice, services):
        services.runner.fault("fail", path="/api/v1/process", status=422)
        command = drive(command_submit(user=alice, text="echo hello"))
        assert (command.status, command.error_code) == (Status.FAILED, "runner_refused")
        assert outcomes(command) == [("failed", "runner_refused")]


def die(after: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the worker die as soon as a file with such a name is there."""
    for method in ("write", "claim"):
        real = getattr(SharedFolder, method)

        def dies(self: SharedFolder, name: str, *args: Any, real: Any = real) -> Any:
            done = real(self, name, *args)
            if name.endswith(after):
                raise Killed
            return done

        monkeypatch.setattr(SharedFolder, method, dies)


@pytest.mark.parametrize(("after", "runs"), [("-1.alt", 0), (".claim", 0), (".accepted", 1)])
def test_a_worker_that_dies_while_it_hands_over_loses_and_doubles_nothing(alice, services, monkeypatch, after, runs):
    command = command_submit(user=alice, text="echo hello")
    with monkeypatch.context() as patch:
        die(after, patch)
        with pytest.raises(Killed):
            drive(command)
    assert services.runs_of(command) == runs
    if after == ".claim":
        age(services.record(command, "claim"))  # what nobody sent is waited for, too
    let_the_lease_expire(command)
    command = finish(command, services)
    assert command.status == Status.COMPLETED
    assert services.runs_of(command) == 1


def test_a_worker_that_was_overtaken_hands_nothing_over(alice, services, monkeypatch):
    """It hangs before it sends the request; another one takes the command over meanwhile, and sends it."""
    command = command_submit(user=alice, text="echo hello")
    write = SharedFolder.write

    def while_another_works(self: SharedFolder, name: str, text: str) -> None:
        monkeypatch.setattr(SharedFolder, "write", write)
        let_the_lease_expire(command)
        finish(command, services)
        write(self, name, text)

    monkeypatch.setattr(SharedFolder, "write", while_another_works)
    engine.advance(command.id)
    command.refresh_from_db()
    assert command.status == Status.COMPLETED
    assert services.runs_of(command) == 1


class TestItCannotBeStopped:
    def test_a_cancelled_run_ends_honestly(self, alice, services, settings):
        command = drive_until(command_submit(user=alice, text="sleep 600"), at_the_runner)
        command_cancel(command=command)
        settings.STAGE_RETRY_WINDOW = 0
        command = drive(command)
        assert (command.status, command.error_code) == (Status.CANCELLED, "cancel_unconfirmed")

    def test_a_run_that_ends_meanwhile_is_completed(self, alice, services, slow_work):
        command = drive_until(command_submit(user=alice, text="echo hello"), at_the_runner)
        eventually(lambda: services.results_of(command))
        command_cancel(command=Command.objects.get(id=command.id))
        command = drive(command)
        assert command.status == Status.COMPLETED
        assert command.result.output == "hello"

    def test_what_it_never_got_is_not_given_to_it_to_be_cancelled(self, alice, services):
        services.runner.fault("fail", path="/api/v1/process", status=503, retry_after=0)
        command = drive_until(
            command_submit(user=alice, text="echo hello"),
            lambda command: command.stage_runs.filter(error_code="runner_unavailable").exists(),
        )
        services.runner.behave()
        command_cancel(command=command)
        command = drive(command)
        assert command.status == Status.CANCELLED
        assert services.runs_of(command) == 0

    def test_what_nobody_knows_of_is_not_called_cancelled(self, alice, services, settings, monkeypatch):
        command = command_submit(user=alice, text="echo hello")
        with monkeypatch.context() as patch:
            die(".claim", patch)
            with pytest.raises(Killed):
                drive(command)
        let_the_lease_expire(command)
        command_cancel(command=Command.objects.get(id=command.id))
        settings.STAGE_RETRY_WINDOW = 0
        command = drive(command)
        assert (command.status, command.error_code) == (Status.CANCELLED, "cancel_unconfirmed")
        assert services.runs_of(command) == 0

    def test_nor_is_what_was_given_up_and_may_go_on(self, alice, services, settings):
        services.runner.fault("lost_answer", path="/api/v1/process", times=1)
        command = drive_until(command_submit(user=alice, text="sleep 600"), at_the_runner)
        age(services.record(command, "claim"))
        drive_until(command, lambda command: command.stage_runs.filter(error_code="runner_not_found").exists())
        command_cancel(command=Command.objects.get(id=command.id))
        settings.STAGE_RETRY_WINDOW = 0
        command = drive(command)
        assert (command.status, command.error_code) == (Status.CANCELLED, "cancel_unconfirmed")
        assert services.runs_of(command) == 1

    def test_a_result_that_never_comes_ends_at_the_time_limit(self, alice, services):
        services.runner.fault("never_finish", path="/api/v1/process", times=1)
        command = drive_until(command_submit(user=alice, text="echo hello"), at_the_runner)
        StageRun.objects.filter(command=command, stage=Stage.RUNNER).update(
            started_at=timezone.now() - timedelta(days=1)
        )
        command = drive(command)
        assert (command.status, command.error_code) == (Status.FAILED, "runner_time_limit")
        services.runner.behave()
        eventually(lambda: services.results_of(command))
        engine.advance(command.id)
        command.refresh_from_db()
        assert (command.status, command.last_file) == (Status.FAILED, None)


def test_a_repeat_at_segmentation_b_leaves_a_second_alt_and_does_no_harm(alice, services):
    services.segmentation.fault("lost_answer", times=1)
    command = finish(command_submit(user=alice, text="echo hello"), services)
    assert command.status == Status.COMPLETED
    assert services.segmentation.works_of(f"{command.id}:segmentation") == 2
    assert services.runs_of(command) == 1


def test_a_folder_that_is_not_mounted_fails_the_command_in_the_end(alice, services, settings, tmp_path):
    gone = dict.fromkeys(settings.SERVICE_SHARED_DIRS, str(tmp_path / "gone"))
    settings.SERVICE_SHARED_DIRS = gone
    settings.STAGE_RETRY_WINDOW = 0
    command = drive(command_submit(user=alice, text="echo hello"))
    assert (command.status, command.error_code) == (Status.FAILED, "segmentation_unavailable")


def test_an_alt_that_vanished_is_missed_and_named(alice, services, monkeypatch):
    real = SharedFolder.name_of
    monkeypatch.setattr(SharedFolder, "name_of", lambda self, path: real(self, path) + ".gone")
    command = drive(command_submit(user=alice, text="echo hello"))
    assert (command.status, command.error_code) == (Status.FAILED, "segmentation_file_missing")


def test_a_lost_atlas_is_missed_and_named(alice, services):
    services.archive.fault("lost_file")
    command = finish(command_submit(user=alice, text="echo hello"), services)
    assert (command.status, command.error_code) == (Status.FAILED, "archive_file_missing")
