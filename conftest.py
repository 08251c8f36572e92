"""What all tests share: three people, and the three sandbox services as real processes."""

import gc
import os
import socket
import sys
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis
import requests  # noqa: TID251 - tests speak to the services and the gateway from outside
from django.conf import settings
from django.core.cache import cache
from django.db.models import Q
from django.test import TransactionTestCase
from django.utils import timezone, translation
from pytest_django import DjangoDbBlocker
from rest_framework.test import APIClient
from rest_framework_simplejwt.settings import api_settings
from xdist.remote import Producer
from xdist.scheduler import LoadGroupScheduling

from accounts import sign_in_cache
from accounts.models import DeviceSession, User
from accounts.services.sessions import session_open
from accounts.tokens import TokenPair, tokens_of
from commands import dispatch, events, limits
from commands.models import Command
from commands.pipeline import engine
from commands.states import Stage
from gateway.embedded.children import Child, stop
from integrations.clients import breaker, retries
from tests.database import InitialRows

PASSWORD = "correct horse battery staple"  # noqa: S105 - for tests


def pytest_collection_finish() -> None:
    """All modules and tests stay to the end: no search for garbage looks through them again."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_xdist_auto_num_workers() -> Generator[None, int, int]:
    """One process more than there are processors: some test always waits, for a process, a socket or a timeout."""
    return (yield) + 1


# What each needs is made once for a whole module, and takes long: a running system, services of another dialect.
IN_ONE_PROCESS = ("tests/test_system.py", "commands/tests/test_dialects.py")


class Scheduling(LoadGroupScheduling):  # type: ignore[misc]  # has no types
    """Keeps modules together by name: the `xdist_group` mark of pytest-xdist 3.8 has no effect with pytest 9.2."""

    def _split_scope(self, nodeid: str) -> str:
        module = nodeid.partition("::")[0]
        return module if module in IN_ONE_PROCESS else nodeid.partition("[")[0]


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduling:
    return Scheduling(config, log)


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:  # noqa: ARG001
    """As pytest-django does it; and what tests commit is taken back by tests.database, not by Django's slow flush."""
    with django_db_blocker.unblock():
        initial = InitialRows.read()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TransactionTestCase, "_fixture_teardown", lambda _case: initial.restore())
        yield


@pytest.fixture
def alice(db: None) -> User:  # noqa: ARG001 - asks for the database
    return User.objects.create_user("alice", "alice@example.com", PASSWORD)


@pytest.fixture
def bob(db: None) -> User:  # noqa: ARG001 - asks for the database
    return User.objects.create_user("bob", "bob@example.com", PASSWORD)


@pytest.fixture
def admin(db: None) -> User:  # noqa: ARG001 - asks for the database
    return User.objects.create_superuser("admin", "admin@example.com", PASSWORD)


def session_of(user: User) -> tuple[DeviceSession, TokenPair]:
    """Sign a user in as `session_start` does, without the check of the password: it takes longer than all the rest."""
    session = session_open(user=user, device_name="", lifetime=api_settings.REFRESH_TOKEN_LIFETIME)
    return session, tokens_of(session)


@pytest.fixture
def api() -> Callable[[User | None], APIClient]:
    """Call it with a user for a client that is signed in with a real token, with None for a stranger."""

    def sign_in(user: User | None) -> APIClient:
        client = APIClient()
        if user is not None:
            _session, tokens = session_of(user)
            client.credentials(HTTP_AUTHORIZATION=f"Bearer {tokens.access}")
        return client

    return sign_in


@dataclass
class SandboxService:
    """A sandbox service in a process of its own."""

    name: str
    url: str

    def fault(self, kind: str, **options: Any) -> None:
        """Let the service misbehave from now on, as integrations/sandbox/README.md describes."""
        self.faults({"kind": kind, **options})

    def faults(self, *faults: dict[str, Any]) -> None:
        """Let the service misbehave in several ways: each request meets the first of them that has times left."""
        answer = requests.put(f"{self.url}/sandbox/faults", json={"faults": list(faults)}, timeout=5)
        answer.raise_for_status()

    def behave(self) -> None:
        requests.delete(f"{self.url}/sandbox/faults", timeout=5).raise_for_status()

    def works_of(self, idempotency_key: str) -> int:
        """Return how often work with that key was really done."""
        stats = requests.get(f"{self.url}/sandbox/stats", timeout=5).json()
        return int(stats["works_by_key"].get(idempotency_key, 0))


@dataclass
class Sandbox:
    segmentation: SandboxService
    runner: SandboxService
    archive: SandboxService

    def __iter__(self) -> Iterator[SandboxService]:
        return iter((self.segmentation, self.runner, self.archive))


@pytest.fixture(scope="session")
def sandbox_processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    folder = tmp_path_factory.mktemp("sandbox")
    children = [start_service(name, folder) for name in ("segmentation", "runner", "archive")]
    yield Sandbox(*(service for service, _child in children))
    stop(child for _service, child in children)


@pytest.fixture
def sandbox(sandbox_processes: Sandbox, settings: Any) -> Iterator[Sandbox]:
    """The three services, well-behaved, and known to the gateway."""
    settings.SERVICE_URLS = {service.name: [service.url] for service in sandbox_processes}
    yield sandbox_processes
    for service in sandbox_processes:
        service.behave()


@pytest.fixture(autouse=True)
def _nothing_left_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the breakers, the cache or the language of another. And none may fail because it is slow.

    Messages to workers are sent at once, also those that are to be sent later.
    """
    translation.activate(settings.LANGUAGE_CODE)  # a request leaves its own behind
    monkeypatch.setattr(sign_in_cache, "EPOCH_SECONDS", 600)
    breaker.forget_failures()
    retries.forget_retries()
    sign_in_cache.believe_again()
    limits.forget_limits()
    engine.forget_busy()
    monkeypatch.setattr(dispatch.publisher, "want", lambda stage, **_: dispatch.send(stage))
    cache.clear()


@pytest.fixture(autouse=True)
def _news_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Events are broadcast by whoever recorded them: no thread is left over, and what was sent is there at once."""
    monkeypatch.setattr(events, "hand_over", lambda event: events.events_broadcast([event]))


@pytest.fixture
def slow_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """No work is done when it was just handed over: so commands stay in the stage that they are in for a while."""
    monkeypatch.setattr("commands.pipeline.stage.POLLS_AT_ONCE", False)


@pytest.fixture
def round_trips(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Return the commands that go to Redis, a list for each time that something is sent."""
    sent: list[bytes] = []
    send = redis.Connection.send_packed_command

    def spy(self: redis.Connection, command: Any, *args: Any, **kwargs: Any) -> None:
        sent.append(b"".join(command) if isinstance(command, list) else command)
        send(self, command, *args, **kwargs)  # type: ignore[no-untyped-call]

    monkeypatch.setattr(redis.Connection, "send_packed_command", spy)
    return sent


def start_service(name: str, folder: Path, *options: str, port: int = 0) -> tuple[SandboxService, Child]:
    """Start `python -m integrations.sandbox`; whoever starts it stops it, and then its port refuses connections."""
    with socket.create_server(("127.0.0.1", port)) as listening:
        fd = listening.fileno()
        command = [
            sys.executable,
            "-m",
            "integrations.sandbox",
            name,
            "--fd",
            str(fd),
            "--state-dir",
            str(folder),
            *options,
        ]
        child = Child(name, command, env=dict(os.environ), log=folder / f"{name}.log", fd=fd)
        return SandboxService(name, f"http://127.0.0.1:{listening.getsockname()[1]}"), child


def drive(command: Command, *, steps: int = 50) -> Command:
    """Work on a command as workers would, without waiting for what it waits for, until it ends."""
    return drive_until(command, lambda command: command.has_ended, steps=steps)


def drive_until(command: Command, reached: Callable[[Command], bool], *, steps: int = 50) -> Command:
    """Work on a command in the same way, until it has got somewhere: at once, if the services are quick enough."""
    for _ in range(steps):
        engine.advance(command.id)
        command.refresh_from_db()
        if reached(command):
            return command
        Command.objects.filter(id=command.id).update(due_at=timezone.now())
    events = list(command.events.values_list("event", "data"))
    raise AssertionError(f"still {command.status} after {steps} steps: {events}")


def drive_to_trouble(command: Command, stage: Stage, settings: Any) -> Command:
    """Work on a command until it ends; with all patience until a try of the stage went wrong, and then with none.

    A limit in seconds for the whole way would also end a stage that is only slow, on a machine that is busy.
    """

    def has_trouble(command: Command) -> bool:
        in_trouble = ~Q(error_code="") | Q(unanswered_since__isnull=False)
        return command.has_ended or command.stage_runs.filter(in_trouble, stage=stage).exists()

    command = drive_until(command, has_trouble)
    settings.STAGE_RETRY_WINDOW = 0
    return command if command.has_ended else drive(command)
