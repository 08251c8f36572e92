"""Services that have too much to do: waited for, for as long as it takes, and as long as they say."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from commands.leases import lease_claim
from commands.models import Outcome, StageRun
from commands.pipeline import engine
from commands.pipeline.attempts import open_run, run_undo
from commands.states import Stage, Status
from commands.tests.troubles import submit
from commands.timeline import command_timeline
from commands.transitions import StaleCommandError, command_transition
from conftest import drive
from integrations import registry
from integrations.clients.breaker import protected

pytestmark = pytest.mark.django_db(transaction=True)


def test_retry_after_is_respected(alice, sandbox):
    sandbox.segmentation.fault("fail", status=503, retry_after=7, times=1)
    command = submit(alice)
    before = timezone.now()
    engine.advance(command.id)
    command.refresh_from_db()
    assert (command.due_at - before).total_seconds() >= 7


@pytest.mark.parametrize("at", ["the choice", "the call"])
def test_a_service_with_too_many_calls_is_waited_for_without_a_trace(alice, sandbox, settings, monkeypatch, at):
    """But for the first wait, which people see. It lasts however long it takes, and is no try."""
    settings.SERVICE_MAX_IN_FLIGHT, settings.STAGE_RETRY_WINDOW = 1, 0
    if at == "the call":  # others were quicker since the choice
        monkeypatch.setattr(registry, "_is_free", lambda _standing: True)
    command = submit(alice)
    turn_at = command.turn_at
    with protected(sandbox.segmentation.url, "GET"), CaptureQueriesContext(connection) as queries:
        for _ in range(3):
            engine.advance(command.id)
            command.refresh_from_db()
            assert command.due_at <= timezone.now()
            assert abs(command.turn_at - turn_at) < timedelta(seconds=1)  # it keeps its turn
        begun = sum('INSERT INTO "commands_stagerun"' in query["sql"] for query in queries.captured_queries)
        assert begun == (1 if at == "the choice" else 3)
        run = command.stage_runs.get()
        assert (run.outcome, run.error_code, run.not_taken) == (Outcome.FAILED, "segmentation_busy", True)
        assert [event.event for event in command.events.all()].count("retrying") == 1
        assert "as many calls as it may have" in command_timeline(command=command).waiting_for
    command = drive(command)
    assert command.status == Status.COMPLETED
    codes = list(command.stage_runs.filter(stage=Stage.SEGMENTATION).values_list("error_code", flat=True))
    assert codes == ["segmentation_busy", ""]
    assert sandbox.segmentation.works_of(f"{command.id}:segmentation") == 1


def test_a_wait_that_is_taken_back_is_the_own_one_and_a_worker_that_died_counts(alice, sandbox):
    """Somebody else took the lease meanwhile, and put the try down as abandoned."""
    command = submit(alice)
    run = StageRun.objects.create(command=command, stage=Stage.SEGMENTATION, attempt=1)
    mine = lease_claim(command_id=command.id)
    assert open_run([StageRun.objects.get(id=run.id)]) is None
    with pytest.raises(StaleCommandError):
        run_undo(mine, run)
    run.refresh_from_db()
    assert run.outcome == Outcome.ABANDONED


def test_thousands_of_tries_are_no_reason_to_fail(alice, sandbox, settings):
    """As an hour of a service that answers with 429 in between leaves them."""
    settings.SERVICE_URLS = settings.SERVICE_URLS | {"segmentation": []}
    command = submit(alice)
    command_transition(command, Status.SEGMENTING)
    done = {"outcome": Outcome.FAILED, "error_code": "segmentation_unavailable", "finished_at": timezone.now()}
    StageRun.objects.bulk_create(
        StageRun(command=command, stage=Stage.SEGMENTATION, attempt=number, **done) for number in range(1, 1201)
    )
    engine.advance(command.id)
    command.refresh_from_db()
    assert command.stage_runs.latest("attempt").attempt == 1201
    assert timezone.now() < command.due_at < timezone.now() + timedelta(seconds=10)
