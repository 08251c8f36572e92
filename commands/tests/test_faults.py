"""Services that are away, slow, broken or lying: tried again if that can help, else a failure with its reason."""

import socket
import time
from datetime import timedelta
from unittest import mock

import pytest
from celery import current_app
from django.db import DatabaseError, connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from django_redis import get_redis_connection
from kombu.exceptions import OperationalError

from commands.leases import lease_claim
from commands.models import Command, Outcome, StageRun
from commands.pipeline import engine
from commands.pipeline import stage as stage_module
from commands.pipeline.attempts import open_run, run_undo
from commands.services import command_submit
from commands.states import Stage, Status
from commands.timeline import command_timeline
from commands.transitions import StaleCommandError, command_transition
from conftest import drive, drive_to_trouble, drive_until, start_service
from files.formats import FormatErrorCode
from gateway.embedded.children import stop
from gateway.settings.base import redis_settings
from integrations import registry
from integrations.clients import breaker
from integrations.clients.breaker import BreakerState, protected, states_of
from integrations.clients.errors import Reason, TransientError
from integrations.models import ServiceInstance, ServiceKind, Source
from integrations.tests.servers import stranger
from tests.own_redis import OwnRedis

pytestmark = pytest.mark.django_db(transaction=True)

STAGES = list(Stage)


HANG_SECONDS = 1


def service_of(sandbox, stage):
    return getattr(sandbox, stage)


def submit(alice):
    return command_submit(user=alice, text="echo hello")


def failed(command, stage):
    """Return the failure of a command, checked for what every failure must have."""
    assert command.status == Status.FAILED
    assert command.error_stage == stage
    assert command.finished_at is not None
    assert command.events.last().event == "failed"
    assert command.events.last().data["stage"] == stage
    assert not StageRun.objects.filter(command=command, finished_at=None).exists()
    return command.error_code


@pytest.mark.parametrize("stage", STAGES)
def test_a_service_that_is_down_fails_the_command_in_the_end(alice, sandbox, settings, stage):
    settings.SERVICE_URLS = settings.SERVICE_URLS | {str(stage): ["http://127.0.0.1:1"]}
    command = drive_to_trouble(submit(alice), stage, settings)
    assert failed(command, stage) == f"{stage}_unavailable"
    assert command.stage_runs.filter(stage=stage).count() > 1
    assert command.events.filter(event="retrying").exists()


@pytest.mark.parametrize(
    ("scheme", "cause", "not_taken"),
    [("https", "the certificate is not good", False), ("http", "the name cannot be resolved", True)],
)
def test_why_there_is_no_connection_is_told(alice, api, sandbox, settings, monkeypatch, scheme, cause, not_taken):
    resolve = socket.getaddrinfo

    def unknown(host, *args, **kwargs):
        if host == "nobody.invalid":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return resolve(host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with stranger() as url:
        bad = url if scheme == "https" else "http://nobody.invalid"
        settings.SERVICE_URLS = settings.SERVICE_URLS | {"runner": [bad]}
        command = drive_to_trouble(submit(alice), Stage.RUNNER, settings)
    assert failed(command, Stage.RUNNER) == "runner_unavailable"
    assert command.error_cause == cause
    tried = api(alice).get(f"/api/v2/commands/{command.id}/timeline").json()["results"][-1]
    assert (tried["not_taken"], tried["error"]["detail"]) == (
        not_taken,
        f"The runner service could not be reached. ({cause})",
    )


@pytest.mark.parametrize("stage", STAGES)
def test_no_instance_at_all_is_the_same_as_one_that_is_down(alice, sandbox, settings, stage):
    settings.SERVICE_URLS = settings.SERVICE_URLS | {str(stage): []}
    assert failed(drive_to_trouble(submit(alice), stage, settings), stage) == f"{stage}_unavailable"


@pytest.mark.parametrize(
    ("fault", "options", "code"),
    [
        ("hang", {}, "timeout"),
        ("fail", {"status": 500}, "error"),
        ("fail", {"status": 503}, "unavailable"),
        ("fail", {"status": 422}, "refused"),
        ("drop", {}, "unavailable"),
        ("garbage", {}, "invalid_answer"),
        ("garbage", {"variant": "wrong_shape"}, "invalid_answer"),
    ],
)
@pytest.mark.parametrize("stage", STAGES)
def test_a_service_that_misbehaves_for_good(alice, sandbox, settings, stage, fault, options, code):
    if fault == "hang":
        settings.SERVICE_TIMEOUT = HANG_SECONDS
    service_of(sandbox, stage).fault(fault, **options)
    assert failed(drive_to_trouble(submit(alice), stage, settings), stage) == f"{stage}_{code}"


@pytest.mark.parametrize(
    ("fault", "options"),
    [("hang", {}), ("fail", {"status": 500}), ("fail", {"status": 429}), ("drop", {}), ("garbage", {})],
)
@pytest.mark.parametrize("stage", STAGES)
def test_a_fault_that_passes_costs_nothing_but_time(alice, sandbox, settings, stage, fault, options):
    if fault == "hang":
        settings.SERVICE_TIMEOUT = HANG_SECONDS
    service_of(sandbox, stage).fault(fault, times=1, **options)
    command = drive(submit(alice))
    assert command.status == Status.COMPLETED
    for each in STAGES:
        assert service_of(sandbox, each).works_of(f"{command.id}:{each}") == 1


@pytest.mark.parametrize(
    ("fault", "options", "code"),
    [
        ("reset", {"where": "headers"}, "unavailable"),
        ("reset", {"where": "body"}, "unavailable"),
        ("drip", {"seconds": 0.1}, "timeout"),
        ("garbage", {"variant": "html"}, "invalid_answer"),
        ("garbage", {"variant": "truncated"}, "invalid_answer"),
        ("garbage", {"variant": "cut_short"}, "unavailable"),
        ("garbage", {"variant": "huge"}, "invalid_answer"),
    ],
)
def test_an_answer_that_does_not_come_whole(alice, sandbox, settings, fault, options, code):
    """The runner does the work, and nobody hears of it: it is done once, and the reason is told."""
    if fault == "drip":
        settings.SERVICE_TIMEOUT = HANG_SECONDS
    sandbox.runner.fault(fault, method="POST", done=True, **options)
    command = drive_to_trouble(submit(alice), Stage.RUNNER, settings)
    assert failed(command, Stage.RUNNER) == f"runner_{code}"
    assert sandbox.runner.works_of(f"{command.id}:runner") == 1


def test_a_command_that_meets_one_fault_after_the_other_is_completed_and_done_once(alice, sandbox):
    faults = [
        {"kind": "fail", "status": 429, "retry_after": 1},
        {"kind": "reset", "where": "headers", "done": True},
        {"kind": "garbage", "variant": "html", "done": True},
        {"kind": "fail", "status": 500, "done": True},
        {"kind": "reset", "where": "body", "done": True},
        {"kind": "wrong_id"},
        {"kind": "garbage", "variant": "cut_short", "done": True},
        {"kind": "duplicate"},
        {"kind": "garbage", "variant": "truncated"},
    ]
    for service in sandbox:
        service.faults(*({**fault, "times": 1} for fault in faults))
    command = drive(submit(alice))
    assert command.status == Status.COMPLETED
    assert command.result.output == "hello"
    for each in STAGES:
        assert service_of(sandbox, each).works_of(f"{command.id}:{each}") == 1


def test_a_runner_that_is_killed_in_mid_run_is_waited_for(alice, sandbox, settings, tmp_path):
    service, child = start_service("runner", tmp_path)
    settings.SERVICE_URLS = settings.SERVICE_URLS | {"runner": [service.url]}
    service.fault("never_finish")
    command = drive_until(submit(alice), lambda command: command.stage_runs.exclude(remote_id="").count() == 2)
    child.wait_or_kill(time.monotonic())
    command = drive_until(command, lambda command: command.stage_runs.filter(unanswered_since__isnull=False).exists())
    assert command.status == Status.RUNNING
    _service, child = start_service("runner", tmp_path, port=int(service.url.rpartition(":")[2]))
    try:
        command = drive(command)
        assert command.status == Status.COMPLETED
        assert service.works_of(f"{command.id}:runner") == 1
    finally:
        stop([child])


def test_without_redis_commands_are_taken_in_and_done_all_the_same(alice, api, sandbox, settings, tmp_path):
    """The breakers, the balancing, the news and the messages to the workers do without it."""
    own_redis = OwnRedis(tmp_path)
    client = api(alice)
    settings.CACHES = redis_settings(own_redis.url)["CACHES"]
    settings.CHANNEL_LAYERS = redis_settings(own_redis.url)["CHANNEL_LAYERS"]
    own_redis.stop()
    with mock.patch.object(current_app, "send_task", side_effect=OperationalError("no broker")):
        answer = client.post("/api/v2/commands", {"text": "echo hello"})
        assert answer.status_code == 201
        command = drive(Command.objects.get(id=answer.json()["id"]))
    assert command.status == Status.COMPLETED
    assert command.events.filter(broadcast_at=None).exists()


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


def test_a_slow_answer_within_the_timeout_is_waited_for(alice, sandbox):
    sandbox.segmentation.fault("slow", seconds=0.3, times=1)
    command = drive(submit(alice))
    assert command.status == Status.COMPLETED
    assert command.stage_runs.filter(stage=Stage.SEGMENTATION).count() == 1


def test_an_alt_with_a_cycle_fails_at_once_with_the_reason(alice, sandbox):
    sandbox.segmentation.fault("cycle")
    command = drive(command_submit(user=alice, text="echo a then echo b"))
    assert failed(command, Stage.SEGMENTATION) == FormatErrorCode.ALT_CYCLE
    assert command.error_cause
    assert command.stage_runs.count() == 1  # the same text would give the same file
    assert command.alt_file is None


@pytest.mark.parametrize("stage", STAGES)
def test_a_file_that_is_announced_and_not_there(alice, sandbox, stage):
    service_of(sandbox, stage).fault("lost_file")
    command = drive(submit(alice))
    assert failed(command, stage) == f"{stage}_file_missing"
    assert command.stage_runs.filter(stage=stage).count() == 3


def test_a_runner_that_forgot_its_task_is_given_it_again(alice, sandbox):
    sandbox.runner.fault("lost_task", times=1)
    command = drive(submit(alice))
    assert command.status == Status.COMPLETED
    outcomes = list(command.stage_runs.filter(stage=Stage.RUNNER).values_list("outcome", "error_code"))
    assert outcomes == [("failed", "runner_not_found"), ("succeeded", "")]
    assert sandbox.runner.works_of(f"{command.id}:runner") == 1


def test_a_runner_that_never_finishes_is_stopped_at_the_time_limit(alice, sandbox, settings):
    settings.STAGE_TIME_LIMIT = 0.3
    sandbox.runner.fault("never_finish")
    command = drive(submit(alice), steps=2000)
    assert failed(command, Stage.RUNNER) == "runner_time_limit"


def test_a_runner_that_goes_away_while_it_works_fails_the_command_in_the_end(alice, sandbox, settings):
    sandbox.runner.fault("drop", path="/tasks")
    command = drive_to_trouble(submit(alice), Stage.RUNNER, settings)
    assert failed(command, Stage.RUNNER) == "runner_unavailable"
    assert command.stage_runs.filter(stage=Stage.RUNNER).count() == 1  # it has the work and is only asked


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


def test_a_storage_that_fails_is_tried_again_and_then_named(alice, sandbox, settings, monkeypatch):
    def full(*_args, **_kwargs):
        raise OSError("No space left on device")

    monkeypatch.setattr("files.services.default_storage.save", full)
    command = drive_to_trouble(submit(alice), Stage.SEGMENTATION, settings)
    assert failed(command, Stage.SEGMENTATION) == "storage_unavailable"
    assert command.stage_runs.count() > 1


def test_a_mistake_in_our_own_code_ends_the_command_and_is_not_told_to_the_user(alice, sandbox, monkeypatch):
    def broken(*_args, **_kwargs):
        raise ZeroDivisionError("secret internals")

    monkeypatch.setattr("commands.pipeline.stages.result_of", broken)
    command = drive(submit(alice))
    assert failed(command, Stage.RUNNER) == "internal_error"
    assert command.error_cause == ""
