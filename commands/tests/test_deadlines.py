"""A deadline is held whether or not a worker comes by."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from commands import tasks
from commands.deadlines import deadlines_enforce
from commands.leases import lease_claim
from commands.models import Command, Outcome
from commands.pipeline import engine
from commands.services import command_cancel, command_submit
from commands.states import Stage, Status
from conftest import drive, drive_until
from integrations.clients.runner import RunnerClient

pytestmark = pytest.mark.django_db(transaction=True)


def submit(alice, text="sleep 600"):
    return command_submit(user=alice, text=text, deadline=timezone.now() + timedelta(hours=1))


def pass_the_deadline(*commands):
    Command.objects.filter(id__in=[each.id for each in commands]).update(deadline=timezone.now())


def state_of(command):
    command.refresh_from_db()
    return command.status, command.error_code


def runner_has_it(command):
    return command.stage_runs.filter(stage=Stage.RUNNER).exclude(remote_id="").exists()


def test_what_has_not_begun_by_then_fails_without_a_worker(alice, api):
    late, other = submit(alice), submit(alice)
    pass_the_deadline(late)
    tasks.sweep()
    assert state_of(late) == (Status.FAILED, "deadline_passed")
    assert late.events.last().data == {"code": "deadline_passed", "stage": None, "retryable": False}
    assert state_of(other) == (Status.QUEUED, "")
    error = api(alice).get(f"/api/v2/commands/{late.id}").json()["error"]
    assert error["detail"] == "The command was not finished by its deadline."


def test_a_worker_that_has_just_claimed_it_does_not_begin(alice, sandbox):
    command = submit(alice)
    claimed = lease_claim(command_id=command.id)
    pass_the_deadline(command)
    assert deadlines_enforce() == 1
    engine._run(claimed)
    assert state_of(command) == (Status.FAILED, "deadline_passed")
    assert not command.stage_runs.exists()


def test_nor_does_one_that_comes_before_the_sweep(alice, sandbox):
    command = submit(alice)
    pass_the_deadline(command)
    engine.advance(command.id)
    assert state_of(command) == (Status.FAILED, "deadline_passed")
    assert not command.stage_runs.exists()


def test_what_runs_past_it_is_stopped_at_the_runner(alice, sandbox):
    command = drive_until(submit(alice), runner_has_it)
    Command.objects.filter(id=command.id).update(due_at=timezone.now() + timedelta(hours=1))
    pass_the_deadline(command)
    tasks.sweep()
    assert state_of(command) == (Status.CANCELLING, "")
    assert command.events.last().data == {"code": "deadline_passed"}
    assert command.due_at <= timezone.now()
    assert deadlines_enforce() == 0  # it is seen to
    command = drive(command)
    assert state_of(command) == (Status.CANCELLED, "deadline_passed")
    assert command.events.last().data == {"code": "deadline_passed", "stage": "runner", "retryable": False}
    run = command.stage_runs.get(stage=Stage.RUNNER)
    assert (run.outcome, run.error_code) == (Outcome.CANCELLED, "deadline_passed")


def test_what_the_runner_does_not_confirm_is_told(alice, sandbox, settings):
    """Both are on record: that the deadline passed, and that the runner may still be at work."""
    command = drive_until(submit(alice), runner_has_it)
    pass_the_deadline(command)
    sandbox.runner.fault("fail", status=500)
    settings.STAGE_RETRY_WINDOW = 0
    assert state_of(drive(command)) == (Status.CANCELLED, "cancel_unconfirmed")
    assert command.events.get(event="cancelling").data == {"code": "deadline_passed"}


def test_a_run_that_had_finished_by_then_is_completed(alice, sandbox, monkeypatch):
    monkeypatch.setattr(RunnerClient, "cancel", lambda *_args: None)  # it comes too late
    monkeypatch.setattr("commands.pipeline.stage.FIRST_POLL_SECONDS", 60)
    command = drive_until(submit(alice, "echo hello"), runner_has_it)
    pass_the_deadline(command)
    deadlines_enforce()
    command = drive(command, steps=2000)
    assert state_of(command) == (Status.COMPLETED, "")
    assert command.result.output == "hello"


@pytest.mark.parametrize("stage", [Stage.SEGMENTATION, Stage.ARCHIVE])
def test_where_nothing_can_be_stopped_it_simply_ends(alice, sandbox, stage):
    getattr(sandbox, stage).fault("fail", status=503)
    command = submit(alice, "echo hello")
    command = drive_until(command, lambda command: command.stage_runs.filter(stage=stage).exists())
    pass_the_deadline(command)
    deadlines_enforce()
    command = drive(command)
    assert state_of(command) == (Status.CANCELLED, "deadline_passed")
    assert command.error_stage == stage


def test_what_is_being_cancelled_or_has_ended_has_none(alice, sandbox):
    cancelling = drive_until(submit(alice), runner_has_it)
    command_cancel(command=cancelling)
    ended = command_cancel(command=submit(alice))
    pass_the_deadline(cancelling, ended)
    assert deadlines_enforce() == 0
    assert state_of(drive(cancelling)) == (Status.CANCELLED, "")
    assert state_of(ended) == (Status.CANCELLED, "")


def test_a_sweep_takes_a_batch_the_oldest_first(alice):
    commands = [submit(alice) for _ in range(3)]
    for command in commands:
        pass_the_deadline(command)
    assert [deadlines_enforce(limit=2) for _ in range(3)] == [2, 1, 0]
    assert [state_of(command)[0] for command in commands] == [Status.FAILED] * 3


@pytest.mark.skipif(connection.vendor != "postgresql", reason="its planner is asked")
def test_the_sweep_reads_a_small_index(alice):
    with CaptureQueriesContext(connection) as captured:
        deadlines_enforce()
    [query] = [query["sql"] for query in captured]
    with connection.cursor() as cursor:
        cursor.execute("SET enable_seqscan = off")
        cursor.execute(f"EXPLAIN {query}")
        plan = "\n".join(row[0] for row in cursor.fetchall())
        cursor.execute("RESET enable_seqscan")
    assert "command_by_deadline" in plan
