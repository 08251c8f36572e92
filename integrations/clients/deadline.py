"""A limit for a whole exchange, from connecting to the last byte, and for the addresses that it may go to.

The timeout of a socket is for one receive, so a server that sends a byte now and then holds a caller for ever, in the
header as well as in the body. Here one thread of the process shuts a socket when its time is over, and whoever reads
from it gets an error. (For the handshake of TLS the timeout is one for all of it.)
"""

import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Self

import urllib3
from requests.adapters import HTTPAdapter  # noqa: TID251 - part of integrations.clients.http
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError

from integrations.addresses import resolved

TICK_SECONDS = 0.05
_current = threading.local()


class Deadline:
    """A context manager: what this thread's connections do inside it ends after `seconds`.

    Whoever finds it `expired` afterwards has to close those connections: they may be cut a moment later still.

    `allows` says whether an address may be talked to at all. It is asked before a connection is made, and again before
    one that was kept is used: no name that leads elsewhere by now gets around it, and no connection of another caller.
    """

    def __init__(self, seconds: float, allows: Callable[[str], bool] | None = None) -> None:
        self.ends_at = time.monotonic() + seconds
        self.expired = False
        self.allows = allows
        self._is_over = False
        self._socket: socket.socket | None = None

    def __enter__(self) -> Self:
        _current.deadline = self
        _watchdog.add(self)
        return self

    def __exit__(self, *_exception: object) -> None:
        _current.deadline = None
        self._is_over = True
        _watchdog.remove(self)

    @property
    def left(self) -> float:
        """Seconds that are left, never below 0."""
        return max(self.ends_at - time.monotonic(), 0.0)

    def watch(self, connected: socket.socket | None) -> None:
        self._socket = connected
        if self.expired:
            self.cut()

    def cut(self) -> None:
        """End it, if it is not over."""
        self.expired = True  # before the look: so either this or the caller knows of the other
        if self._socket is not None and not self._is_over:
            with suppress(OSError):
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)  # below TLS, which would want to say goodbye


class _Watchdog:
    """One thread, for all exchanges of the process: a timer for each would cost more than all else here.

    No lock of it is held here: an exception that comes at any moment, as from a time limit of Celery, could leave it
    locked for ever.
    """

    def __init__(self) -> None:
        self._deadlines: dict[int, Deadline] = {}
        self._wanted = threading.Event()
        self._thread: threading.Thread | None = None

    def add(self, deadline: Deadline) -> None:
        self._deadlines[id(deadline)] = deadline
        if not self._wanted.is_set():
            self._wanted.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="deadlines", daemon=True)
            self._thread.start()

    def remove(self, deadline: Deadline) -> None:
        self._deadlines.pop(id(deadline), None)

    def _run(self) -> None:
        while True:
            self._wanted.wait()
            time.sleep(TICK_SECONDS)
            self._wanted.clear()
            running = list(self._deadlines.values())
            for deadline in running:
                if not deadline.left:
                    self.remove(deadline)
                    deadline.cut()
            if running:
                self._wanted.set()


_watchdog = _Watchdog()


def _start_anew() -> None:
    global _watchdog  # noqa: PLW0603 - a thread does not come along into a child process
    _watchdog = _Watchdog()


os.register_at_fork(after_in_child=_start_anew)


class _WatchedMixin:
    host: str
    port: int
    sock: Any
    timeout: Any
    socket_options: Any

    def request(self, *args: Any, **kwargs: Any) -> None:
        deadline = _deadline()
        if deadline is not None and self.sock is not None:
            if deadline.allows and not deadline.allows(self.sock.getpeername()[0]):
                self.close()  # type: ignore[attr-defined]  # of the class that this is mixed into
            else:
                deadline.watch(self.sock)
        super().request(*args, **kwargs)  # type: ignore[misc]  # the same

    def _new_conn(self) -> socket.socket:
        deadline = _deadline()
        if deadline is None:
            connected: socket.socket = super()._new_conn()  # type: ignore[misc]  # the same
            return connected
        connection: Any = self
        try:
            connected = _connect(connection, deadline)
        except socket.gaierror as error:
            raise NameResolutionError(self.host, connection, error) from error
        except TimeoutError as error:
            raise ConnectTimeoutError(connection, "no connection in time") from error
        except (OSError, UnicodeError) as error:
            raise NewConnectionError(connection, f"no connection: {error}") from error
        deadline.watch(connected)
        return connected


class _WatchedHTTPConnection(_WatchedMixin, HTTPConnection):
    pass


class _WatchedHTTPSConnection(_WatchedMixin, HTTPSConnection):
    pass


class _HTTPPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _WatchedHTTPConnection


class _HTTPSPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _WatchedHTTPSConnection


class WatchedAdapter(HTTPAdapter):
    """Lets a Deadline see the sockets of a session."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}


def _deadline() -> Deadline | None:
    return getattr(_current, "deadline", None)


def _connect(connection: Any, deadline: Deadline) -> socket.socket:
    """Connect to the first address of the host that is allowed and answers.

    All within the time for connecting, with that for finding out the addresses.
    """
    host = connection._dns_host.strip("[]")  # noqa: SLF001 - as urllib3 connects to it itself
    seconds = min(connection.timeout, deadline.left)
    until = time.monotonic() + seconds
    last_error = OSError("the address is not allowed")
    for address in resolved(host, seconds):
        if deadline.allows and not deadline.allows(address):
            continue
        try:
            connected = _connect_to(address, connection, until)
        except OSError as error:
            last_error = error
        else:
            connected.settimeout(min(connection.timeout, max(deadline.left, 0.001)))  # for all of TLS's handshake
            return connected
    raise last_error


def _connect_to(address: str, connection: Any, until: float) -> socket.socket:
    connected = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    try:
        for option in connection.socket_options or ():
            connected.setsockopt(*option)
        connected.settimeout(max(until - time.monotonic(), 0.001))
        connected.connect((address, connection.port))
    except BaseException:
        connected.close()
        raise
    return connected
