"""Cancelling: what can be stopped is stopped, and a command says so only when it is known."""

from datetime import timedelta

import pytest
import requests  # noqa: TID251 - asks the runner itself
from django.utils import timezone

from commands.models import Command
from commands.pipeline import engine
from commands.services import command_cancel, command_stop, command_submit
from commands.states import Stage, Status
from conftest import drive, drive_until
from gateway.api.errors import ApiError, ErrorCode
from integrations.clients.base import WorkReport, WorkState
from integrations.clients.errors import InvalidAnswerError, Reason
from integrations.clients.runner import RunnerClient
from integrations.models import ServiceInstance


def runs_at_the_runner(command):
    return command.stage_runs.filter(stage=Stage.RUNNER)


def spoiled(submit):
    """Let the runner take the work, and answer nonsense."""

    def ask(*args, **kwargs):
        submit(*args, **kwargs)
        raise InvalidAnswerError("not JSON")

    return ask


def runner_has_it(command):
    return runs_at_the_runner(command).exclude(remote_id="").exists()


class TestCancel:
    pytestmark = pytest.mark.django_db(transaction=True)

    def test_what_no_worker_has_begun_ends_at_once(self, alice):
        command = command_cancel(command=command_submit(user=alice, text="echo hello"))
        assert Command.objects.get(id=command.id).status == Status.CANCELLED

    def test_a_run_is_stopped_and_what_it_left_is_kept(self, alice, sandbox):
        command = command_submit(user=alice, text="echo first then sleep 600")
        command = drive_until(command, lambda command: command.events.filter(event="progress").exists(), steps=2000)
        assert command.status == Status.RUNNING
        command_cancel(command=command)
        assert Command.objects.get(id=command.id).status == Status.CANCELLING
        command = drive(command)
        assert command.status == Status.CANCELLED
        assert command.stage_runs.get(stage=Stage.RUNNER).outcome == "cancelled"
        assert not command.stage_runs.filter(finished_at=None).exists()
        assert command.result.tasks[0]["output"] == "first"

    def test_cancelling_twice_is_no_error(self, alice, sandbox):
        command = drive_until(command_submit(user=alice, text="sleep 600"), runner_has_it)
        command_cancel(command=command)
        seq = Command.objects.get(id=command.id).last_seq
        command_cancel(command=Command.objects.get(id=command.id))
        assert Command.objects.get(id=command.id).last_seq == seq
        cancelled = drive(command)
        command_cancel(command=cancelled)
        assert cancelled.status == Status.CANCELLED

    def test_what_ended_otherwise_cannot_be_cancelled(self, alice, sandbox):
        command = drive(command_submit(user=alice, text="echo hello"))
        with pytest.raises(ApiError) as raised:
            command_cancel(command=command)
        assert raised.value.error_code == ErrorCode.COMMAND_NOT_CANCELLABLE

    def test_a_worker_at_work_notices_and_stops(self, alice, sandbox, monkeypatch):
        command = command_submit(user=alice, text="sleep 600")
        real = engine.stage_step

        def cancelled_meanwhile(*args):
            monkeypatch.setattr(engine, "stage_step", real)
            command_cancel(command=Command.objects.get(id=command.id))
            return real(*args)

        monkeypatch.setattr(engine, "stage_step", cancelled_meanwhile)
        engine.advance(command.id)
        command.refresh_from_db()
        assert command.status == Status.CANCELLED
        assert command.alt_file is None

    def test_a_run_that_was_finished_before_it_could_be_stopped_is_completed(
        self, alice, sandbox, slow_work, monkeypatch
    ):
        monkeypatch.setattr("commands.pipeline.stage.FIRST_POLL_SECONDS", 60)
        command = drive_until(command_submit(user=alice, text="echo hello"), runner_has_it)
        task = f"{sandbox.runner.url}/tasks/{command.stage_runs.get(stage=Stage.RUNNER).remote_id}"
        deadline = timezone.now() + timedelta(seconds=5)
        while requests.get(task, timeout=5).json()["status"] != "completed":
            assert timezone.now() < deadline
        command_cancel(command=Command.objects.get(id=command.id))
        command = drive(command)
        assert command.status == Status.COMPLETED
        assert command.result.output == "hello"

    def test_a_runner_that_does_not_confirm_is_on_record(self, alice, sandbox, settings):
        command = drive_until(command_submit(user=alice, text="sleep 600"), runner_has_it)
        sandbox.runner.fault("fail", status=500)
        command_cancel(command=command)
        settings.STAGE_RETRY_WINDOW = 0
        command = drive(command, steps=2000)
        assert (command.status, command.error_code) == (Status.CANCELLED, "cancel_unconfirmed")
        assert command.events.last().data == {"code": "cancel_unconfirmed", "stage": "runner", "retryable": False}
        run = command.stage_runs.get(stage=Stage.RUNNER)
        assert (run.outcome, run.error_code) == ("cancelled", "cancel_unconfirmed")

    def test_a_runner_that_ignores_it_is_asked_again_until_the_time_is_over(
        self, alice, sandbox, settings, monkeypatch
    ):
        asked = []
        monkeypatch.setattr(RunnerClient, "cancel", lambda _client, remote_id: asked.append(remote_id))
        command = drive_until(command_submit(user=alice, text="sleep 600"), runner_has_it)
        command_cancel(command=command)
        for times in range(1, 4):
            Command.objects.filter(id=command.id).update(due_at=timezone.now())
            before = timezone.now()
            engine.advance(command.id)
            command.refresh_from_db()
            assert (command.status, len(asked)) == (Status.CANCELLING, times)
            assert command.due_at >= before + timedelta(seconds=1)
        command.events.filter(event="cancelling").update(at=timezone.now() - timedelta(seconds=31))
        command = drive(command)
        assert (command.status, command.error_code) == (Status.CANCELLED, "cancel_unconfirmed")

    def test_a_runner_that_confirms_late_is_believed(self, alice, sandbox, monkeypatch):
        with monkeypatch.context() as patch:
            patch.setattr(RunnerClient, "cancel", lambda *_args: None)
            command = drive_until(command_submit(user=alice, text="sleep 600"), runner_has_it)
            command_cancel(command=command)
            engine.advance(command.id)
        command = drive(Command.objects.get(id=command.id))
        assert (command.status, command.error_code) == (Status.CANCELLED, "")
        assert not command.stage_runs.filter(finished_at=None).exists()

    def test_a_runner_that_is_gone_for_good_keeps_nobody_waiting(self, alice, sandbox, settings):
        command = drive_until(command_submit(user=alice, text="sleep 600"), runner_has_it)
        settings.SERVICE_URLS = settings.SERVICE_URLS | {"runner": []}
        ServiceInstance.objects.all().delete()
        command_cancel(command=command)
        engine.advance(command.id)
        assert Command.objects.get(id=command.id).status == Status.CANCELLING
        settings.STAGE_RETRY_WINDOW = 0
        command = drive(command)
        assert (command.status, command.error_code) == (Status.CANCELLED, "cancel_unconfirmed")

    def test_a_result_that_cannot_be_fetched_just_now_is_fetched_later(self, alice, sandbox, slow_work, monkeypatch):
        """The runner had finished: what it did is not thrown away, because a file is hard to get."""
        monkeypatch.setattr(RunnerClient, "cancel", lambda *_args: None)
        monkeypatch.setattr("commands.pipeline.stage.FIRST_POLL_SECONDS", 60)
        command = drive_until(command_submit(user=alice, text="echo hello"), runner_has_it)
        sandbox.runner.fault("fail", status=503, path="/files", times=2)
        command_cancel(command=command)
        command = drive(command, steps=2000)
        assert (command.status, command.error_code) == (Status.COMPLETED, "")
        assert command.result.output == "hello"

    @pytest.mark.parametrize(
        ("data", "code"), [({}, "runner_unavailable"), ({"code": "deadline_passed"}, "deadline_passed")]
    )
    def test_a_result_that_cannot_be_fetched_at_all_is_not_called_unconfirmed(
        self, alice, sandbox, slow_work, settings, monkeypatch, data, code
    ):
        """The runner says that it is over: that it may still be working would not be right."""
        monkeypatch.setattr(RunnerClient, "cancel", lambda *_args: None)
        monkeypatch.setattr("commands.pipeline.stage.FIRST_POLL_SECONDS", 60)
        command = drive_until(command_submit(user=alice, text="echo hello"), runner_has_it)
        sandbox.runner.fault("fail", status=503, path="/files")
        command_stop(command=command, data=data)
        done = lambda _client, remote_id: WorkReport(remote_id, WorkState.DONE, file_id="1")  # noqa: E731
        monkeypatch.setattr(RunnerClient, "report", done)
        settings.STAGE_RETRY_WINDOW = 0
        command = drive(command, steps=2000)
        assert (command.status, command.error_code) == (Status.CANCELLED, code)
        assert not command.stage_runs.filter(finished_at=None).exists()

    def test_who_cancels_for_somebody_else_is_on_record(self, alice, admin):
        command = command_submit(user=alice, text="echo")
        command_cancel(command=command, reason="it blocks others", by=admin)
        assert command.events.last().data == {"reason": "it blocks others", "by": "admin"}

    @pytest.mark.parametrize("stage", [Stage.SEGMENTATION, Stage.ARCHIVE])
    def test_where_nothing_can_be_stopped_what_waits_simply_ends(self, alice, sandbox, stage):
        getattr(sandbox, stage).fault("fail", status=503)
        command = drive_until(
            command_submit(user=alice, text="echo hello"),
            lambda command: command.stage_runs.filter(stage=stage).exists(),
        )
        command = drive(command_cancel(command=command))
        assert (command.status, command.error_code) == (Status.CANCELLED, "")
        assert not command.stage_runs.filter(finished_at=None).exists()
        assert getattr(sandbox, stage).works_of(f"{command.id}:{stage}") == 0

    def test_work_whose_fate_is_unknown_is_found_and_stopped(self, alice, sandbox, settings):
        settings.SERVICE_TIMEOUT = 0.5
        # The runner gets the work, and its answer is lost.
        sandbox.runner.fault("slow", path="/run", seconds=1, times=1)
        command = drive_until(command_submit(user=alice, text="sleep 600"), runs_at_the_runner)
        assert command.stage_runs.get(stage=Stage.RUNNER).remote_id == ""
        command_cancel(command=command)
        command = drive(command, steps=2000)
        assert command.status == Status.CANCELLED
        known = command.stage_runs.filter(stage=Stage.RUNNER).last()
        assert known.remote_id
        assert sandbox.runner.works_of(f"{command.id}:runner") == 1
        task = requests.get(f"{sandbox.runner.url}/tasks/{known.remote_id}", timeout=5).json()
        assert task["status"] == "cancelled"

    @pytest.mark.parametrize("reason", [Reason.INVALID_ANSWER, Reason.NOT_FOUND])
    def test_so_is_work_of_which_the_runner_spoke_nonsense(self, alice, sandbox, monkeypatch, reason):
        with monkeypatch.context() as patch:
            if reason is Reason.NOT_FOUND:
                sandbox.runner.fault("lost_task", times=1)
            else:
                patch.setattr(RunnerClient, "submit", spoiled(RunnerClient.submit))
            command = drive_until(
                command_submit(user=alice, text="sleep 600"),
                lambda command: command.stage_runs.filter(error_code=f"runner_{reason}").exists(),
            )
        command_cancel(command=command)
        command = drive(command, steps=2000)
        assert command.status == Status.CANCELLED
        assert sandbox.runner.works_of(f"{command.id}:runner") == 1
        remote_id = command.stage_runs.filter(stage=Stage.RUNNER).last().remote_id
        task = requests.get(f"{sandbox.runner.url}/tasks/{remote_id}", timeout=5).json()
        assert task["status"] == "cancelled"

    @pytest.mark.parametrize("error", [OSError("the disk is away"), ZeroDivisionError()])
    def test_so_is_work_that_a_later_try_could_not_even_hand_over(self, alice, sandbox, monkeypatch, error):
        def fails(*_args):
            raise error

        sandbox.runner.fault("lost_answer", path="/run", times=2)
        command = drive_until(command_submit(user=alice, text="sleep 600"), runs_at_the_runner)
        with monkeypatch.context() as patch:
            patch.setattr("commands.pipeline.stages.file_text", fails)
            drive_until(command, lambda _command: runs_at_the_runner(command).count() == 2)
        command_cancel(command=Command.objects.get(id=command.id))
        command = drive(command)
        assert command.status == Status.CANCELLED
        assert sandbox.runner.works_of(f"{command.id}:runner") == 1
        task = f"{sandbox.runner.url}/tasks/{runs_at_the_runner(command).last().remote_id}"
        assert requests.get(task, timeout=5).json()["status"] == "cancelled"

    def test_so_is_work_though_the_runner_does_not_know_the_call_just_now(self, alice, sandbox):
        """A 404 to a hand-over, as of a proxy before it, does not say that it never got the one before."""
        sandbox.runner.faults(
            {"kind": "lost_answer", "path": "/run", "times": 2}, {"kind": "fail", "path": "/run", "status": 404}
        )
        command = drive_until(command_submit(user=alice, text="sleep 600"), runs_at_the_runner)
        command_cancel(command=command)
        engine.advance(command.id)
        assert Command.objects.get(id=command.id).status == Status.CANCELLING
        sandbox.runner.behave()
        command = drive(command)
        assert command.status == Status.CANCELLED
        task = f"{sandbox.runner.url}/tasks/{runs_at_the_runner(command).last().remote_id}"
        assert requests.get(task, timeout=5).json()["status"] == "cancelled"

    def test_what_was_never_handed_over_is_given_to_nobody_to_be_cancelled(self, alice, sandbox, monkeypatch):
        def fails(*_args):
            raise OSError("the disk is away")

        with monkeypatch.context() as patch:
            patch.setattr("commands.pipeline.stages.file_text", fails)
            command = drive_until(command_submit(user=alice, text="echo hello"), runs_at_the_runner)
        command_cancel(command=command)
        assert drive(command).status == Status.CANCELLED
        assert sandbox.runner.works_of(f"{command.id}:runner") == 0

    def test_nor_is_what_the_runner_did_not_take_just_then(self, alice, sandbox, monkeypatch):
        """The cancellation comes while the call is out: the try ends otherwise than the call."""
        command = command_submit(user=alice, text="echo hello")
        submit = RunnerClient.submit

        def cancelled_meanwhile(*args, **kwargs):
            command_cancel(command=Command.objects.get(id=command.id))
            return submit(*args, **kwargs)

        monkeypatch.setattr(RunnerClient, "submit", cancelled_meanwhile)
        sandbox.runner.fault("fail", status=429, times=1)
        assert drive(command).status == Status.CANCELLED
        assert runs_at_the_runner(command).get().not_taken
        assert sandbox.runner.works_of(f"{command.id}:runner") == 0

    def test_a_runner_that_forgets_what_it_was_asked_after_leaves_no_try_open(self, alice, sandbox):
        sandbox.runner.fault("lost_answer", path="/run", times=2)
        command = drive_until(command_submit(user=alice, text="sleep 600"), runs_at_the_runner)
        sandbox.runner.fault("fail", status=404, path="/tasks")
        command_cancel(command=command)
        assert drive(command).status == Status.CANCELLED
        assert [run.outcome for run in runs_at_the_runner(command)] == ["failed", "cancelled"]

    def test_a_deadline_that_passes_meanwhile_does_not_make_it_hurry(self, alice, sandbox):
        command = command_submit(user=alice, text="sleep 600", deadline=timezone.now() + timedelta(seconds=60))
        command = drive_until(command, runner_has_it)
        sandbox.runner.fault("fail", status=500)
        command_cancel(command=command)
        Command.objects.filter(id=command.id).update(deadline=timezone.now())
        before = timezone.now()
        engine.advance(command.id)
        command.refresh_from_db()
        assert command.due_at >= before + timedelta(seconds=1)
