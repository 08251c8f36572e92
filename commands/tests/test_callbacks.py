import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import requests  # noqa: TID251 - asks the runner itself
from django.core.signing import Signer
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from rest_framework.test import APIClient

from commands import services
from commands.callbacks import callback_token
from commands.leases import NEWS_INTERVAL
from commands.models import Command, StageRun
from commands.pipeline import engine, stage
from commands.services import command_submit
from commands.states import Stage, Status
from conftest import drive

pytestmark = pytest.mark.django_db(transaction=True)


def url_of(command):
    return reverse("runner-callback", args=[callback_token(command.id, Stage.RUNNER)])


@pytest.fixture
def running(alice, sandbox, slow_work, monkeypatch):
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


def everything(command):
    return [list(rows.values()) for rows in (Command.objects.filter(id=command.id), command.stage_runs, command.events)]


def test_a_callback_that_comes_twice_or_late_changes_nothing(running, sandbox):
    report = finished_report(running, sandbox)
    assert APIClient().post(url_of(running), report, format="json").status_code == 204
    replays = [report, {**report, "status": "failed"}, {"id": report["id"], "status": "running", "progress": 10}]

    def replay():
        before = everything(running)
        for body in replays:
            assert APIClient().post(url_of(running), body, format="json").status_code == 204
        assert everything(running) == before

    replay()  # the stage is not over, but its end has been told
    engine.advance(running.id)
    replay()  # the command has ended


def test_a_runner_that_chatters_is_asked_soon_but_not_at_once_and_costs_no_writes(running):
    tick = {"id": run_of(running).remote_id, "status": "running", "progress": 10}
    with CaptureQueriesContext(connection) as queries:
        for _ in range(10):
            assert APIClient().post(url_of(running), tick, format="json").status_code == 204
    assert [query["sql"].split()[0] for query in queries if not query["sql"].startswith("SELECT")] == ["UPDATE"]
    due_at = Command.objects.get(id=running.id).due_at
    assert timedelta(0) < due_at - timezone.now() <= NEWS_INTERVAL


def test_of_two_ends_told_at_once_one_is_taken(running, monkeypatch):
    ends = [{"id": run_of(running).remote_id, "status": status} for status in ("failed", "cancelled")]
    both_have_looked, looked, wakes = threading.Barrier(2, timeout=10), threading.local(), []
    look = services._run_reported_on

    def look_together(*args):
        found = look(*args)
        if not hasattr(looked, "once"):
            looked.once = both_have_looked.wait()
        return found

    monkeypatch.setattr(services, "_run_reported_on", look_together)
    monkeypatch.setattr(services, "wake_on_commit", lambda *args, **_: wakes.append(args))

    def call_back(body):
        try:
            return APIClient().post(url_of(running), body, format="json").status_code
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(call_back, ends)) == [204, 204]
    assert len(wakes) == 1
    assert run_of(running).reported["state"] in ("failed", "cancelled")


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
def test_a_callback_about_another_task_changes_nothing(running):
    before = everything(running)
    for status in ("completed", "failed", "running"):
        lie = {"id": "other", "status": status, "lastFileId": "other.last"}
        assert APIClient().post(url_of(running), lie, format="json").status_code == 204
    assert everything(running) == before


@pytest.mark.security
@pytest.mark.security_sessions
@pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
def test_a_callback_that_lies_about_the_end_is_found_out(alice, sandbox, running, status):
    """The runner is asked: what another's file holds does not become this command's, and no run is taken for failed."""
    other = drive(command_submit(user=alice, text="echo of somebody else"))
    lie = {"id": run_of(running).remote_id, "status": status, "lastFileId": run_of(other).remote_file_id}
    finished_report(running, sandbox)
    APIClient().post(url_of(running), lie, format="json")
    drive(running)
    assert running.status == Status.COMPLETED
    assert running.result.output == "hello"
    assert running.stage_runs.filter(stage=Stage.RUNNER).count() == 1


def test_a_callback_that_makes_no_sense_is_refused_and_changes_nothing(running):
    before = everything(running)
    task = run_of(running).remote_id
    bodies = [
        ("[]", 400),
        ('"text"', 400),
        ("", 400),
        ("{", 400),
        ("{}", 400),
        ('{"id": "1"}', 400),
        ('{"id": "1", "status": "strange"}', 400),
        ('{"id": "1", "status": "completed"}', 400),
        ('{"id": "1\\u0000", "status": "running"}', 400),
        ('{"id": "\\ud800", "status": "running"}', 400),
        ('{"id": "1", "status": "running", "progress": "half"}', 400),
        ('{"id": "1", "status": "running", "progress": NaN}', 400),
        ('{"id": "1", "status": "running", "progress": 1e999}', 400),
        ('{"id": "1", "status": "running", "progress": %s}' % ("9" * 4000), 400),
        ('{"id": %s, "status": "running"}' % ("9" * 5000), 400),
        ('{"id": {"nested": 1}, "status": "running"}', 400),
        ('{"id": "1", "status": "running", "more": %s}' % ("[" * 30_000 + "]" * 30_000), 400),
        (json.dumps({"id": task, "status": "running", "error": "x" * 64 * 1024}), 413),
    ]
    for body, status in bodies:
        answer = APIClient().post(url_of(running), body, content_type="application/json")
        assert (answer.status_code, answer["Content-Type"]) == (status, "application/problem+json"), body[:80]
    form = APIClient().post(
        url_of(running), f"id={task}&status=running", content_type="application/x-www-form-urlencoded"
    )
    assert form.status_code == 415
    assert everything(running) == before


@pytest.mark.security
@pytest.mark.security_sessions
def test_an_address_that_this_gateway_did_not_make_is_unknown(running, settings):
    token = callback_token(running.id, Stage.RUNNER)
    assert token == Signer(salt="commands.runner-callback").sign(running.id.hex)  # those of version 0.1.0 stay good
    of_another_stage = callback_token(running.id, Stage.ARCHIVE)
    changed = token[:-1] + ("a" if token[-1] != "a" else "b")
    for forged in (changed, of_another_stage, running.id.hex, "x", f"{running.id.hex}:"):
        url = reverse("runner-callback", args=[forged])
        # Nobody reads what a stranger sends: it is not even parsed.
        assert APIClient().post(url, "{", content_type="application/json").status_code == 404
    assert APIClient().get(url_of(running)).status_code == 405

    settings.SECRET_KEY_FALLBACKS, settings.SECRET_KEY = [settings.SECRET_KEY], "the next key" * 5
    url = reverse("runner-callback", args=[token])
    assert APIClient().post(url, {"id": "1", "status": "running"}, format="json").status_code == 204
    settings.SECRET_KEY_FALLBACKS = []
    assert APIClient().post(url, {"id": "1", "status": "running"}, format="json").status_code == 404
