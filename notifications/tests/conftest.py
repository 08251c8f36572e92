"""A real websocket server in a thread, with the real Redis, and clients to talk to it."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any

import pytest
import uvicorn
from channels.layers import get_channel_layer
from django.utils import timezone
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from accounts.models import DeviceSession, User
from accounts.tokens import TokenPair
from commands.models import Command, CommandEvent
from commands.transitions import command_event, first_event
from conftest import session_of
from gateway.asgi import application
from notifications import broadcast

SECONDS = 10.0


def wait_until(happened: Callable[[], object]) -> None:
    deadline = time.monotonic() + SECONDS
    while not happened():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


class SocketServer:
    """Serves gateway.asgi as production does, but in a thread of the test's process."""

    def __init__(self) -> None:
        self._listener = socket.socket()
        # Small buffers, so that a client that does not read is felt soon.
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8 * 1024)
        self._listener.bind(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        config = uvicorn.Config(
            application, lifespan="off", log_config=None, timeout_graceful_shutdown=1, ws_max_size=4 * 1024 * 1024
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=asyncio.run, args=[self._serve()])

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._serving = self.loop.create_task(self._server.serve(sockets=[self._listener]))
        with suppress(asyncio.CancelledError):
            await self._serving
        self._listener.close()

    def start(self) -> None:
        self._thread.start()
        wait_until(lambda: self._server.started)

    def stop(self) -> None:
        """End it at once if nobody is connected any more: uvicorn's own way takes a quarter of a second of waiting."""
        self._server.should_exit = True
        deadline = time.monotonic() + 0.1
        while self._server.server_state.connections and time.monotonic() < deadline:
            time.sleep(0.002)
        if not self._server.server_state.connections:
            self.loop.call_soon_threadsafe(self._serving.cancel)
        self._thread.join()

    @property
    def layer(self) -> Any:
        layer: Any = get_channel_layer()
        return layer._layers.get(self.loop)

    def left_over(self) -> list[Any]:
        """Return what there still is of any socket."""
        coroutines: list[Any] = [task.get_coro() for task in asyncio.all_tasks(self.loop)]
        names = [coroutine.__qualname__ for coroutine in coroutines]
        tasks = [name for name in names if name.startswith(("GatewayConsumer", "Delivery", "AsyncConsumer"))]
        rest = [*self._server.server_state.tasks, *tasks]
        if self.layer:
            rest += [*self.layer.channels, *self.layer.groups, *self.layer._shards[0]._subscribed_to]
        return rest


@pytest.fixture
def server() -> Iterator[SocketServer]:
    server = SocketServer()
    server.start()
    yield server
    server.stop()


class Client:
    """The other end of a socket."""

    def __init__(self, line: ClientConnection) -> None:
        self.line = line

    def send(self, kind: str, payload: object = None, frame_id: object = None) -> None:
        frame = {"type": kind, "payload": payload, "id": frame_id}
        self.line.send(json.dumps({name: value for name, value in frame.items() if value is not None}))

    def receive(self) -> dict[str, Any]:
        frame = json.loads(self.line.recv(SECONDS))
        assert isinstance(frame, dict)
        return frame

    def expect(self, kind: str) -> Any:
        """Return the payload of the next frame, which is to be of this type."""
        frame = self.receive()
        assert frame["type"] == kind, frame
        return frame.get("payload")

    def ask(self, kind: str, payload: object = None) -> dict[str, Any]:
        """Send a frame and return the answer to it."""
        self.send(kind, payload)
        return self.receive()

    def subscribe(self, *commands: Command, after: int | None = None) -> Any:
        rooms = [f"command:{command.id}" for command in commands]
        self.send("subscribe", {"rooms": rooms, "after": {room: after for room in rooms if after is not None}})
        return self.expect("subscribed")

    def events(self, count: int) -> list[int]:
        """Return the numbers of the next events."""
        return [self.expect("command.event")["seq"] for _ in range(count)]

    def assert_nothing_more(self) -> None:
        """What was on its way comes before the answer to this."""
        assert self.ask("ping") == {"type": "pong"}

    def close_code(self) -> int | None:
        """Return the code that the server closes with; frames that come before are dropped."""
        try:
            while True:
                self.line.recv(SECONDS)
        except ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd else None

    def close(self) -> None:
        self.line.close()


@pytest.fixture
def dial(server: SocketServer) -> Iterator[Callable[..., Client]]:
    """Call it to open a socket. In the end, nothing of any of them may be left in the server."""
    with ExitStack() as lines:

        def open_socket(query: str = "", token: str = "", path: str = "/ws", **options: Any) -> Client:
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            headers.update(options.pop("headers", {}))
            options = {"proxy": None, "compression": None, "close_timeout": 1, **options}
            url = f"ws://{server.address}{path}{query}"
            return Client(lines.enter_context(connect(url, additional_headers=headers, **options)))

        yield open_socket
    wait_until(lambda: not server.left_over())


@pytest.fixture
def sign_in() -> Callable[[User], tuple[DeviceSession, TokenPair]]:
    return session_of


@pytest.fixture
def dial_as(dial: Callable[..., Client], sign_in: Any) -> Callable[..., Client]:
    """Call it with a user for a socket that is signed in."""

    def open_socket(user: User, **options: Any) -> Client:
        client = dial(token=sign_in(user)[1].access, **options)
        client.expect("ready")
        return client

    return open_socket


@pytest.fixture
def unheard(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that is broadcast arrives."""
    monkeypatch.setattr(broadcast, "_send", _drop)


def _drop(*_messages: tuple[str, dict[str, Any]]) -> None:
    pass


def make_command(user: User, *, events: int = 1, data: dict[str, Any] | None = None) -> Command:
    """Return a command with that many events, all but the first of them made without a broadcast."""
    now = timezone.now()
    command = Command(user=user, text="echo hello", due_at=now)
    first_event(command)
    CommandEvent.objects.bulk_create(
        CommandEvent(command=command, seq=seq, event="progress", status=command.status, progress=0, data=data or {})
        for seq in range(2, events + 1)
    )
    command.last_seq = events
    command.save(update_fields=["last_seq"])
    return command


def happen(command: Command) -> None:
    """Let the next event of the command happen."""
    command_event(command, "progress", lease_owner="")
