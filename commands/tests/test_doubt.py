"""Who gets the work when an instance is in trouble: what one may have done is given to no other."""

import pytest
from django.db import DatabaseError
from django_redis import get_redis_connection

from commands.models import Outcome, StageRun
from commands.pipeline import engine
from commands.pipeline import stage as stage_module
from commands.states import Stage, Status
from commands.tests.troubles import failed, submit
from conftest import drive, drive_until
from integrations.clients import breaker
from integrations.clients.breaker import BreakerState, protected, states_of
from integrations.clients.errors import Reason, TransientError
from integrations.models import ServiceInstance, ServiceKind, Source

pytestmark = pytest.mark.django_db(transaction=True)


def test_work_that_an_instance_may_have_done_is_given_to_no_other(alice, sandbox, second_runner):
    """Whichever is the first to get it does it, and cannot say so."""
    for service in (sandbox.runner, second_runner):
        service.fault("lost_answer", path="/run", times=2)
    command = drive(submit(alice))
    assert command.status == Status.COMPLETED
    assert len(set(command.stage_runs.filter(stage=Stage.RUNNER).values_list("instance", flat=True))) == 1
    assert sum(service.works_of(f"{command.id}:runner") for service in (sandbox.runner, second_runner)) == 1


def test_work_that_an_instance_never_got_is_given_to_another(alice, sandbox, second_runner):
    for service, other in ((sandbox.runner, second_runner), (second_runner, sandbox.runner)):
        service.fault("fail", status=429)
        command = drive(submit(alice))
        assert command.status == Status.COMPLETED
        assert (service.works_of(f"{command.id}:runner"), other.works_of(f"{command.id}:runner")) == (0, 1)
        service.behave()


def test_one_that_answers_5xx_to_all_work_gets_no_new_work_until_it_is_well(alice, sandbox, second_runner):
    """Its health is good all the time. What it was given stays with it, as it may have done it."""
    sandbox.runner.fault("fail", path="/run", status=500)
    first = [submit(alice) for _ in range(2 * breaker.FAILURES)]  # half of them for each
    for command in first:
        drive_until(command, lambda command: command.stage_runs.filter(stage=Stage.RUNNER).exists())
    assert states_of([sandbox.runner.url])[sandbox.runner.url] is BreakerState.OPEN
    for _ in range(2):
        command = drive(submit(alice))
        assert command.status == Status.COMPLETED
        assert command.stage_runs.get(stage=Stage.RUNNER).instance == second_runner.url
    sandbox.runner.behave()
    get_redis_connection("default").hset(f"service-breaker:POST {sandbox.runner.url}", "opened_at", 1)
    for command in (submit(alice), *first):
        assert drive(command).status == Status.COMPLETED
    works = [[each.works_of(f"{command.id}:runner") for command in first] for each in (sandbox.runner, second_runner)]
    assert [sum(each) for each in works] == [breaker.FAILURES, breaker.FAILURES]
    assert states_of([sandbox.runner.url])[sandbox.runner.url] is BreakerState.CLOSED


def test_an_instance_that_does_not_know_the_call_is_passed_over(alice, api, sandbox, second_runner):
    """As when its path is wrong: its health is good, and nothing that it is handed over arrives."""
    for wrong, right in ((sandbox.runner, second_runner), (second_runner, sandbox.runner)):
        wrong.fault("fail", status=404, path="/run")
        ours = [drive(submit(alice)) for _ in range(2)]  # in turn: one of them goes to the wrong one first
        assert [command.status for command in ours] == [Status.COMPLETED] * 2
        [lost] = StageRun.objects.filter(command__in=ours, outcome=Outcome.FAILED)
        assert (lost.instance, lost.error_code, lost.not_taken) == (wrong.url, "runner_unknown_call", True)
        assert [right.works_of(f"{command.id}:runner") for command in ours] == [1, 1]
        wrong.behave()
    [tried, _other] = [
        each
        for each in api(alice).get(f"/api/v2/commands/{lost.command_id}/timeline").json()["results"]
        if each["stage"] == "runner"
    ]
    assert tried["error"]["detail"].startswith("The runner service does not know the call; its address may be wrong.")
    for service in (sandbox.runner, second_runner):
        service.fault("fail", status=404, path="/run")
    command = drive(submit(alice))
    assert failed(command, Stage.RUNNER) == "runner_unknown_call"
    assert command.stage_runs.filter(stage=Stage.RUNNER).count() == 3


def test_an_instance_that_says_404_after_a_broken_answer_may_have_the_work_all_the_same(alice, sandbox, second_runner):
    """Both requests are of one call, which the client repeats at once."""
    for service in (sandbox.runner, second_runner):
        service.faults(
            {"kind": "reset", "where": "headers", "done": True, "path": "/run", "times": 1},
            {"kind": "fail", "status": 404, "path": "/run", "times": 1},
        )
    command = drive(submit(alice))
    assert command.status == Status.COMPLETED
    assert sum(service.works_of(f"{command.id}:runner") for service in (sandbox.runner, second_runner)) == 1


@pytest.mark.parametrize(
    ("fault", "options", "counts"),
    [
        ("fail", {"status": 500}, False),
        ("fail", {"status": 408}, False),
        ("fail", {"status": 503}, False),
        ("drop", {}, True),
        ("open breaker", {}, False),
    ],
)
def test_only_a_call_that_was_made_and_not_answered_speaks_against_an_instance(alice, sandbox, fault, options, counts):
    url = sandbox.segmentation.url
    row = ServiceInstance.objects.create(kind=ServiceKind.SEGMENTATION, base_url=url, source=Source.SETTINGS)
    if fault == "open breaker":
        for _ in range(breaker.FAILURES):
            with pytest.raises(TransientError), protected(url, "POST"):
                raise TransientError(Reason.TIMEOUT, no_answer=True)
    else:
        sandbox.segmentation.fault(fault, **options)
    command = submit(alice)
    engine.advance(command.id)
    run = command.stage_runs.get()
    assert run.outcome == Outcome.FAILED
    assert (run.error_code == "segmentation_left_alone") == (fault == "open breaker")
    row.refresh_from_db()
    assert row.failures_in_row == counts


def test_a_failure_that_cannot_be_counted_ends_the_try_all_the_same(alice, sandbox, monkeypatch):
    def broken(*_args):
        raise DatabaseError("deadlock detected")

    monkeypatch.setattr(stage_module, "call_failed", broken)
    sandbox.segmentation.fault("drop", path="/segment", times=2)
    command = drive(submit(alice))
    assert command.status == Status.COMPLETED
    codes = command.stage_runs.filter(stage=Stage.SEGMENTATION).values_list("error_code", flat=True)
    assert list(codes) == ["segmentation_unavailable", ""]
