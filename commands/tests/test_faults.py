"""Services that are away, slow, broken or lying: tried again if that can help, else a failure with its reason."""

import socket
import time
from unittest import mock

import pytest
from celery import current_app
from kombu.exceptions import OperationalError

from commands.models import Command
from commands.services import command_submit
from commands.states import Stage, Status
from commands.tests.troubles import failed, submit
from conftest import drive, drive_to_trouble, drive_until, start_service
from files.formats import FormatErrorCode
from gateway.embedded.children import stop
from gateway.settings.base import redis_settings
from integrations.tests.servers import stranger
from tests.own_redis import OwnRedis

pytestmark = pytest.mark.django_db(transaction=True)

STAGES = list(Stage)
HANG_SECONDS = 1


def service_of(sandbox, stage):
    return getattr(sandbox, stage)


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
