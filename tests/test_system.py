"""The whole system as `make run` starts it: real processes, real requests, a real socket."""

import json
import os
import re
import socket
import sys
from collections.abc import Iterator

import pytest
import requests  # noqa: TID251 - speaks to the gateway from outside
from websockets.sync.client import connect

from gateway.embedded.children import Child
from gateway.embedded.system import QUEUES, WORKER_PROCESSES, PartEndedError, StartError, System
from tests.running import ENDED, Gateway, until

pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    # Long enough that no call of a service that hangs ends by itself while a test looks.
    gateway = Gateway(tmp_path_factory.mktemp("system"), SERVICE_TIMEOUT="100").start()
    yield gateway
    gateway.stop()


def test_a_command_goes_in_by_http_and_its_news_come_by_the_socket(gateway):
    session = gateway.sign_in()
    ticket = session.post(f"{gateway.url}/api/v2/realtime/ticket", timeout=10).json()
    with connect(ticket["url"]) as ws:
        assert json.loads(ws.recv(5))["type"] == "ready"
        command_id = gateway.submit(session, "echo Merhaba dünya ve ardından calc 6*7")
        room = f"command:{command_id}"
        ws.send(json.dumps({"type": "subscribe", "id": 1, "payload": {"rooms": [room]}}))
        assert json.loads(ws.recv(5)) == {"type": "subscribed", "id": 1, "payload": {"rooms": [room], "denied": []}}
        events = []
        while not events or events[-1]["command"]["status"] not in ENDED:
            frame = json.loads(ws.recv(30))
            assert frame["type"] == "command.event"
            events.append(frame["payload"])
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert events == gateway.read(session, f"commands/{command_id}/events")["results"]
    assert events[-1]["event"] == "completed"
    result = gateway.read(session, f"commands/{command_id}/result")
    assert (result["status"], result["output"]) == ("completed", "Merhaba dünya\n42")
    for file in gateway.read(session, f"commands/{command_id}")["files"]:
        answer = session.get(gateway.url + file["url"], timeout=10)
        assert (answer.status_code, len(answer.content)) == (200, file["size"])


def test_progress_is_live(gateway):
    session = gateway.sign_in()
    command_id = gateway.submit(session, "sleep 1.5 then echo done")
    token = session.headers["Authorization"].removeprefix("Bearer ")
    with connect(f"ws://127.0.0.1:{gateway.port}/ws") as ws:
        ws.send(json.dumps({"type": "auth", "id": "a", "payload": {"token": token}}))
        assert json.loads(ws.recv(5))["type"] == "ready"
        ws.send(json.dumps({"type": "subscribe", "payload": {"rooms": [f"command:{command_id}"]}}))
        seen = set()
        while "completed" not in seen:
            seen.add(json.loads(ws.recv(30)).get("payload", {}).get("event"))
    assert "progress" in seen


def test_a_running_command_can_be_cancelled(gateway):
    session = gateway.sign_in()
    command_id = gateway.submit(session, "sleep 600")
    until(lambda: gateway.read(session, f"commands/{command_id}")["status"] == "running")
    assert session.post(f"{gateway.url}/api/v2/commands/{command_id}/cancel", timeout=10).status_code == 202
    assert gateway.ended(session, command_id)["status"] == "cancelled"


def test_it_is_ready_and_its_pages_work_without_the_internet(gateway):
    ready = requests.get(f"{gateway.url}/health/ready", timeout=10)
    assert (ready.status_code, ready.json()["status"]) == (200, "ok")
    assert set(ready.json()["checks"]) == {"database", "redis", "worker", "segmentation", "runner", "archive"}
    for page in ("/api-docs", "/api-docs/redoc", "/api-docs/errors", "/admin/login/"):
        answer = requests.get(gateway.url + page, timeout=10)
        assert answer.status_code == 200
        for address in re.findall(r'(?:src|href)="([^"]+\.(?:js|css|png))"', answer.text):
            assert address.startswith("/static/")
            assert requests.get(gateway.url + address, timeout=10).status_code == 200
    assert requests.get(f"{gateway.url}/api/v2/schema", timeout=20).status_code == 200


def test_a_runner_that_hangs_does_not_stop_segmentation(gateway):
    """More commands than the whole system has worker processes wait for it: only those of its queue are held."""
    session = gateway.sign_in()
    faults = f"{gateway.service('runner')}/sandbox/faults"
    hang = {"kind": "hang", "path": "/run"}
    requests.put(faults, json={"faults": [hang]}, timeout=5).raise_for_status()

    def tries_of_the_runner():
        runs = [gateway.read(session, f"commands/{command}/timeline")["results"] for command in commands]
        return [run for each in runs for run in each if run["stage"] == "runner"]

    try:
        commands = [gateway.submit(session, "echo hello") for _ in range(WORKER_PROCESSES * len(QUEUES) + 1)]
        for command in commands:
            until(lambda command=command: gateway.read(session, f"commands/{command}")["stage"] == "runner")
        until(lambda: len(tries_of_the_runner()) == WORKER_PROCESSES)
        assert all(run["finished_at"] is None for run in tries_of_the_runner())
    finally:
        requests.delete(faults, timeout=5).raise_for_status()
    assert {gateway.ended(session, command)["status"] for command in commands} == {"completed"}


def test_a_port_or_folder_in_use_ends_it_with_a_clear_message(gateway, tmp_path):
    for env, message in (
        ({"PORT": str(gateway.port)}, f"port {gateway.port} cannot be used"),
        ({"DATA_DIR": str(gateway.folder)}, "another gateway runs in"),
        ({"PORT": "http"}, "PORT must be a number"),
    ):
        second = Gateway(tmp_path / "second", **env)
        with pytest.raises(AssertionError, match=message):
            second.start()
        assert second.wait() == 1
        assert "Traceback" not in second.output


@pytest.mark.parametrize(("ready", "error"), [(True, PartEndedError), (False, StartError)])
def test_a_part_that_ends_later_is_not_called_a_failed_start(tmp_path, monkeypatch, ready, error):
    system = System()

    def start(_socket: socket.socket) -> dict[str, str]:
        ends = [sys.executable, "-c", "raise SystemExit(3)"]
        system.children.append(Child("beat", ends, env=dict(os.environ), log=tmp_path / "beat.log"))
        return {}

    monkeypatch.setattr(system, "_start_parts", start)
    monkeypatch.setattr(system, "_is_ready", lambda: ready)
    with socket.socket() as unused, pytest.raises(error, match="beat has ended"):
        system._start_and_watch(unused)


def test_a_stand_in_keeps_its_port_while_nobody_else_has_it(tmp_path, monkeypatch):
    monkeypatch.setenv("DATA_DIR", str(tmp_path))

    def port() -> int:
        with System()._same_port_as_before("runner") as listening:
            return int(listening.getsockname()[1])

    first = port()
    assert port() == first
    with socket.create_server(("127.0.0.1", first)):
        other = port()
    assert other != first
    (tmp_path / "sandbox" / "runner.port").write_text("no port")
    assert port() > 0
