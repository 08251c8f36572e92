"""A gateway as `make run` starts it, for tests that speak to it from outside."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import requests  # noqa: TID251 - speaks to the gateway from outside

PASSWORD = "only-for-this-test"
T = TypeVar("T")
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
