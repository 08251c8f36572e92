"""The whole system as `make run` starts it, with two instances of each service, and parts that may die."""

import asyncio
import os
import secrets
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import httpx

from gateway.embedded import redis
from gateway.embedded.children import Child
from gateway.embedded.system import SERVICES, System

INSTANCES = (1, 2)
PASSWORD = secrets.token_urlsafe(16)
SERVICE_TIMEOUT = 4  # seconds; shorter than usual, so that a service that hangs is noticed while it does
RESTART_SECONDS = 120.0  # for a part to end when it is asked to, and to answer when it is started
# What a developer has set must not decide how a drill ends.
FOREIGN = (
    "REDIS",
    "BROKER",
    "SEGMENTATION",
    "RUNNER",
    "ARCHIVE",
    "SERVICE",
    "STAGE",
    "DJANGO_SETTINGS",
    "DEMO_",
    "ADMIN_",
)


class DrillSystem(System):
    """Unlike `make run` it goes on when a part dies: whoever runs the drill starts it again."""

    def __init__(self, folder: Path, database_url: str | None, retry_window: float) -> None:
        for name in [name for name in os.environ if name.startswith((*FOREIGN, "DATABASE"))]:
            del os.environ[name]
        os.environ |= {"PORT": str(free_port()), "DATA_DIR": str(folder)}
        super().__init__()
        self.env |= {
            "DJANGO_SETTINGS_MODULE": "tests.drill.settings",
            "DEMO_PASSWORD": PASSWORD,
            "ACCESS_TOKEN_MINUTES": "60",
            "SERVICE_TIMEOUT": str(SERVICE_TIMEOUT),
            "STAGE_RETRY_WINDOW": str(retry_window),
        }
        if database_url:
            self.env["DATABASE_URL"] = database_url
        self.retry_window = retry_window
        self.instances: dict[str, str] = {}  # base URL by name, such as runner-2
        self._found_dead: list[str] = []
        self._starts: dict[str, Callable[[], None]] = {}

    @contextmanager
    def running(self) -> Iterator[None]:
        """Start everything, and wait until it is ready. Raises StartError."""
        with self._bind() as web_socket, self._lock_folder():
            self._start_parts(web_socket)
            self._wait_for("the system to be ready", self._is_ready)
            yield

    def kill(self, name: str) -> None:
        """Kill a part and its own children, as `kill -9` does."""
        self._living(name).wait_or_kill(time.monotonic())

    def pid_of(self, name: str) -> int:
        return self._living(name).pid

    def start_again(self, name: str) -> None:
        self.children = [child for child in self.children if child.name != name]
        self._starts[name]()

    async def restart(self, name: str) -> None:
        """Ask a part to end, start it again, and wait until it answers if it is an instance of a service.

        Raises TimeoutError.
        """
        part = self._living(name)
        part.terminate()
        async with asyncio.timeout(RESTART_SECONDS):
            while part.exit_code is None:  # noqa: ASYNC110 - a process has no events
                await asyncio.sleep(0.05)
        self.start_again(name)
        if name in self.instances:
            await self.until_it_answers(name)

    async def until_it_answers(self, name: str) -> None:
        """Wait until the instance of a service answers. Raises TimeoutError."""
        async with asyncio.timeout(RESTART_SECONDS), httpx.AsyncClient(timeout=5) as client:
            while True:
                try:
                    await client.get(f"{self.instances[name]}/health")
                except httpx.HTTPError:
                    await asyncio.sleep(0.05)
                else:
                    return

    def ended(self) -> list[str]:
        """Return the parts that ended by themselves."""
        codes = {child.name: child.exit_code for child in self.children}
        ended = [f"{name} has ended (exit code {code})" for name, code in codes.items() if code is not None]
        return ended + self._found_dead

    async def until_redis_answers(self) -> None:
        """Raises TimeoutError."""
        async with asyncio.timeout(RESTART_SECONDS):
            while not redis.answers(self.env["REDIS_URL"]):  # noqa: ASYNC110 - a process has no events
                await asyncio.sleep(0.05)

    def _start_services(self) -> None:
        for kind in SERVICES:
            for number in INSTANCES:
                name, port = f"{kind}-{number}", free_port()
                # A port, and not a socket that is kept open: of a dead instance, connections must be refused.
                command = [sys.executable, "-m", "integrations.sandbox", kind, "--port", str(port)]
                self._start(name, [*command, "--state-dir", str(self.folder / "sandbox" / name)])
                self.instances[name] = f"http://127.0.0.1:{port}"
            self.env[f"{kind.upper()}_URLS"] = ",".join(self.instances[f"{kind}-{number}"] for number in INSTANCES)

    def _start(self, name: str, command: list[str], fd: int | None = None, **env: str) -> None:
        self._starts[name] = partial(super()._start, name, command, fd, **env)
        self._starts[name]()

    def _living(self, name: str) -> Child:
        """Return a part that is to end. One that is dead already is noted: once started again, it looks well."""
        part = next(child for child in self.children if child.name == name)
        if part.exit_code is not None:
            self._found_dead.append(f"{name} had ended by itself (exit code {part.exit_code})")
        return part


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port
