import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import requests  # noqa: TID251 - asks the runner itself
from django.db import connection
from django.urls import reverse
from django.utils import timezone
from rest_framework.test import APIClient

from commands.callbacks import callback_token
from commands.leases import NEWS_INTERVAL
from commands.models import Command, StageRun
from commands.pipeline import engine, stage
from commands.services import command_submit
from commands.states import Stage, Status
from conftest import drive

pytestmark = pytest.mark.django_db(transaction=True)


def url_of(command):
    return reverse("runner-callback", args=[callback_token(command.id)])


@pytest.fixture
def running(alice, sandbox, monkeypatch):
    """A command that a runner works on, and that nobody would look at again for a minute."""
    monkeypatch.setattr("commands.pipeline.stage.FIRST_POLL_SECONDS", 60)
    monkeypatch.setattr("commands.pipeline.stage.MAX_POLL_SECONDS", 60)
    command = command_submit(user=alice, text="echo hello")
    engine.advance(command.id)
    command.refresh_from_db()
    assert command.status == Status.RUNNING
    return command


def run_of(command):
    return command.stage_runs.get(stage=Stage.RUNNER)


def finished_report(command, sandbox):
    run = run_of(command)
    while True:
        report = requests.get(f"{sandbox.runner.url}/tasks/{run.remote_id}", timeout=5).json()
        if report["status"] == "completed":
            return report


def test_a_callback_brings_the_command_on_before_any_poll(running, sandbox):
    answer = APIClient().post(url_of(running), finished_report(running, sandbox), format="json")
    assert answer.status_code == 204
    engine.advance(running.id)
    running.refresh_from_db()
    assert running.status == Status.COMPLETED
    assert StageRun.objects.get(command=running, stage=Stage.RUNNER).polls == 1  # the submission alone


def test_a_callback_that_comes_twice_or_late_does_no_harm(running, sandbox):
    report = finished_report(running, sandbox)
    for _ in range(2):
        assert APIClient().post(url_of(running), report, format="json").status_code == 204
    engine.advance(running.id)
    before = Command.objects.filter(id=running.id).values().get()
    assert APIClient().post(url_of(running), report, format="json").status_code == 204
    assert Command.objects.filter(id=running.id).values().get() == before


def test_a_tick_after_the_end_does_not_take_the_end_back(running, sandbox):
    report = finished_report(running, sandbox)
    APIClient().post(url_of(running), report, format="json")
    tick = {"id": report["id"], "status": "running", "progress": 10}
    assert APIClient().post(url_of(running), tick, format="json").status_code == 204
    assert run_of(running).reported["state"] == "done"


def test_a_runner_that_chatters_is_asked_soon_but_not_at_once(running):
    tick = {"id": run_of(running).remote_id, "status": "running", "progress": 10}
    for _ in range(3):
        assert APIClient().post(url_of(running), tick, format="json").status_code == 204
    due_at = Command.objects.get(id=running.id).due_at
    assert timedelta(0) < due_at - timezone.now() <= NEWS_INTERVAL


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite has one writer at a time and no row locks")
def test_a_callback_waits_for_the_worker_and_neither_gives_way(running, sandbox):
    report = finished_report(running, sandbox)
    in_the_transaction, done = threading.Event(), threading.Event()

    def call_back():
        in_the_transaction.wait(5)
        try:
            return APIClient().post(url_of(running), report, format="json").status_code
        finally:
            connection.close()
            done.set()

    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(call_back)
        Command.objects.update(due_at=timezone.now())
        with pytest.MonkeyPatch.context() as patch:
            real = stage.finish_run

            def after_the_callback_waits(*args, **kwargs):
                in_the_transaction.set()
                done.wait(0.5)  # it cannot be done: it waits for the command, which this transaction holds
                return real(*args, **kwargs)

            patch.setattr(stage, "finish_run", after_the_callback_waits)
            drive(running)
        assert answer.result(5) == 204
    running.refresh_from_db()
    assert running.status == Status.COMPLETED
    assert running.stage_runs.filter(stage=Stage.RUNNER).count() == 1


@pytest.mark.security
@pytest.mark.security_sessions
def test_a_callback_about_another_task_is_not_believed(running):
    lie = {"id": "other", "status": "completed", "lastFileId": "other.last"}
    assert APIClient().post(url_of(running), lie, format="json").status_code == 204
    assert run_of(running).reported is None


@pytest.mark.security
@pytest.mark.security_sessions
def test_a_callback_that_lies_about_the_file_is_found_out(running):
    lie = {"id": run_of(running).remote_id, "status": "completed", "lastFileId": "no-such-file.last"}
    APIClient().post(url_of(running), lie, format="json")
    engine.advance(running.id)
    running.refresh_from_db()
    assert running.status == Status.RUNNING
    assert running.stage_runs.filter(stage=Stage.RUNNER, error_code="runner_file_missing").exists()


@pytest.mark.parametrize(
    "body",
    [
        [],
        "text",
        {},
        {"id": "1"},
        {"id": "1", "status": "strange"},
        {"id": "1", "status": "completed"},
        {"id": "1\0", "status": "running"},
        {"id": "1", "status": "running", "progress": "half"},
        {"id": "1", "status": "running", "progress": "nan"},
        {"id": {"nested": 1}, "status": "running"},
    ],
)
def test_a_callback_that_makes_no_sense_is_refused_and_changes_nothing(running, body):
    before = Command.objects.filter(id=running.id).values().get()
    answer = APIClient().post(url_of(running), body, format="json")
    assert answer.status_code == 400
    assert answer["Content-Type"] == "application/problem+json"
    assert Command.objects.filter(id=running.id).values().get() == before


@pytest.mark.security
@pytest.mark.security_sessions
def test_an_address_that_this_gateway_did_not_make_is_unknown(running):
    token = callback_token(running.id)
    for forged in (token[:-1] + ("a" if token[-1] != "a" else "b"), running.id.hex, "x", f"{running.id.hex}:"):
        url = reverse("runner-callback", args=[forged])
        assert APIClient().post(url, {"id": "1", "status": "running"}, format="json").status_code == 404
    assert APIClient().get(url_of(running)).status_code == 405
