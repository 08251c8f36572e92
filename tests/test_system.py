"""The whole system as `make run` starts it: real processes, real requests, a real socket."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest
import requests  # noqa: TID251 - speaks to the gateway from outside
from websockets.sync.client import connect

from gateway.embedded.children import Child
from gateway.embedded.system import QUEUES, WORKER_PROCESSES, PartEndedError, StartError, System

pytestmark = pytest.mark.timeout(120)

PASSWORD = "only-for-this-test"
START_SECONDS = 60
T = TypeVar("T")
SUBMISSION = {"segmentation": "/segment", "runner": "/run", "archive": "/archive"}
ENDED = ("completed", "failed", "cancelled")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def until(check: Callable[[], T], seconds: float = 30) -> T:
    """Return the first true value of `check`."""
    deadline = time.monotonic() + seconds
    while not (value := check()):
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.02)
    return value


class Gateway:
    """One running system in a folder of its own."""

    def __init__(self, folder: Path, **env: str) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.env = {name: value for name, value in os.environ.items() if not name.startswith(("REDIS", "DATABASE"))}
        self.env |= {"PORT": str(self.port), "DATA_DIR": str(folder), "DEMO_PASSWORD": PASSWORD, **env}
        self.env.pop("DJANGO_SETTINGS_MODULE", None)
        self.output = ""

    def start(self) -> "Gateway":
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gateway.embedded"],
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output += line
            if line.startswith("Ready."):
                return self
        raise AssertionError(f"the gateway did not start:\n{self.output}")

    def stop(self, number: int = signal.SIGINT) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        self.output += self.process.communicate(timeout=30)[0]
        return self.process.returncode

    def wait(self) -> int:
        self.output += self.process.communicate(timeout=30)[0]
        return self.process.returncode

    def children(self, name: str = "") -> list[int]:
        """Return the processes that belong to this folder, the supervisor aside, by a part of their command line."""
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdecimal() or int(entry.name) == self.process.pid:
                continue
            try:
                environment = (entry / "environ").read_bytes()
                command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if f"DATA_DIR={self.folder}".encode() in environment and name in command:
                found.append(int(entry.name))
        return found

    def service(self, name: str) -> str:
        """Return the address of one of the stand-ins, which only the processes of the system are told."""
        environment = Path(f"/proc/{self.children('celery')[0]}/environ").read_text()
        found = re.search(rf"{name.upper()}_URLS=([^\0]+)", environment)
        assert found is not None
        return found[1]

    def sign_in(self) -> requests.Session:
        session = requests.Session()
        answer = session.post(f"{self.url}/api/v2/auth/login", json={"login": "demo", "password": PASSWORD}, timeout=10)
        assert answer.status_code == 200, answer.text
        session.headers["Authorization"] = f"Bearer {answer.json()['access']}"
        return session

    def submit(self, session: requests.Session, text: str) -> str:
        answer = session.post(f"{self.url}/api/v2/commands", json={"text": text}, timeout=10)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def read(self, session: requests.Session, path: str) -> Any:
        answer = session.get(f"{self.url}/api/v2/{path}", timeout=10)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def ended(self, session: requests.Session, command_id: str) -> Any:
        def look() -> Any:
            command = self.read(session, f"commands/{command_id}")
            return command if command["status"] in ENDED else None

        return until(look, 60)


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


@pytest.mark.slow
def test_two_gateways_do_not_disturb_each_other(gateway, tmp_path):
    other = Gateway(tmp_path / "other").start()
    try:
        mine = gateway.submit(gateway.sign_in(), "echo mine")
        session = other.sign_in()
        theirs = other.submit(session, "echo theirs")
        assert other.ended(session, theirs)["status"] == "completed"
        assert gateway.ended(gateway.sign_in(), mine)["status"] == "completed"
        assert session.get(f"{other.url}/api/v2/commands/{mine}", timeout=10).status_code == 404
    finally:
        assert other.stop() == 0
    assert other.children() == []
    assert gateway.children() != []


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


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_stops_every_child_and_keeps_the_data(tmp_path, number):
    gateway = Gateway(tmp_path).start()
    session = gateway.sign_in()
    command_id = gateway.submit(session, "echo kept")
    gateway.ended(session, command_id)
    assert gateway.stop(number) == 0
    assert gateway.children() == []
    gateway.start()
    try:
        assert gateway.read(session, f"commands/{command_id}/result")["output"] == "kept"
    finally:
        gateway.stop()


@pytest.mark.slow
@pytest.mark.parametrize("stage", SUBMISSION)
def test_a_worker_killed_in_any_stage_loses_nothing_and_each_service_works_once(tmp_path, stage):
    gateway = Gateway(tmp_path).start()
    # The stage's service takes its time to answer, and in that time the worker dies.
    fault = {"kind": "slow", "seconds": 3, "path": SUBMISSION[stage]}
    service = gateway.service(stage)
    requests.put(f"{service}/sandbox/faults", json={"faults": [fault]}, timeout=5).raise_for_status()
    session = gateway.sign_in()
    command_id = gateway.submit(session, "echo hello")
    until(lambda: gateway.read(session, f"commands/{command_id}")["stage"] == stage)
    for worker in gateway.children(f"celery -A gateway worker --queues {stage}"):
        os.kill(worker, signal.SIGKILL)
    assert gateway.wait() == 1
    assert f"The gateway stopped: worker-{stage} has ended (exit code -9)" in gateway.output
    assert gateway.children() == []
    gateway.start()
    try:
        assert gateway.ended(session, command_id)["status"] == "completed"
        for name in SUBMISSION:
            works = requests.get(f"{gateway.service(name)}/sandbox/stats", timeout=5).json()["works_by_key"]
            assert works[f"{command_id}:{name}"] == 1
        events = gateway.read(session, f"commands/{command_id}/events")["results"]
        assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    finally:
        gateway.stop()


DEADLY = """
import os
from celery.signals import worker_process_init

@worker_process_init.connect
def let_it_die_of_poison(**_kwargs):
    from integrations.clients.segmentation import SegmentationClient
    submit = SegmentationClient.submit

    def swallow(self, request, **kwargs):
        if request.command == "poison":
            os._exit(9)
        return submit(self, request, **kwargs)

    SegmentationClient.submit = swallow
"""


@pytest.mark.slow
def test_a_command_over_which_three_workers_die_fails_and_stops_no_other(tmp_path):
    """Its text ends the worker's process, in the middle of the work."""
    (tmp_path / "sitecustomize.py").write_text(DEADLY)
    paths = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    gateway = Gateway(tmp_path / "system", PYTHONPATH=paths, SERVICE_TIMEOUT="1").start()
    try:
        session = gateway.sign_in()
        poison = gateway.submit(session, "poison")
        others = [gateway.submit(session, "echo hello") for _ in range(8)]
        assert {gateway.ended(session, command)["status"] for command in others} == {"completed"}
        command = gateway.ended(session, poison)
        assert (command["status"], command["error"]["code"]) == ("failed", "poisoned")
        tries = gateway.read(session, f"commands/{poison}/timeline")["results"]
        assert [(each["outcome"], each["error"]["code"]) for each in tries] == [("abandoned", "worker_lost")] * 3
        assert requests.get(f"{gateway.url}/health/ready", timeout=10).status_code == 200
    finally:
        gateway.stop()


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


@pytest.mark.slow
def test_it_starts_in_a_folder_with_an_odd_name_and_leaves_its_mode_alone(tmp_path):
    folder = tmp_path / 'it\'s a "folder"'
    folder.mkdir(mode=0o755)
    gateway = Gateway(folder).start()
    assert gateway.stop() == 0
    assert folder.stat().st_mode & 0o777 == 0o755
    assert all(path.stat().st_mode & 0o077 == 0 for path in folder.iterdir())


@pytest.mark.slow
def test_the_death_of_the_supervisor_leaves_nothing_behind(tmp_path):
    gateway = Gateway(tmp_path).start()
    gateway.stop(signal.SIGKILL)
    until(lambda: not gateway.children())
