"""A limit for a whole exchange, down to the last byte.

The timeout of a socket is for one receive, so a server that sends a byte now and then holds a caller for ever, in the
header as well as in the body. Here a timer shuts the socket when the time is over, and whoever reads gets an error.
"""

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Self

import urllib3
from requests.adapters import HTTPAdapter  # noqa: TID251 - part of integrations.clients.http
from urllib3.connection import HTTPConnection, HTTPSConnection

_current = threading.local()


class Deadline:
    """A context manager: what this thread's connections do inside it ends after `seconds`.

    `allows` says whether an address may be connected to at all: asked of the connection, so that no name that leads
    elsewhere by now gets around it.
    """

    def __init__(self, seconds: float, allows: Callable[[str], bool] | None = None) -> None:
        self.expired = False
        self.allows = allows
        self._socket: socket.socket | None = None
        self._timer = threading.Timer(seconds, self._cut)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        _current.deadline = self
        self._timer.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._timer.cancel()
        _current.deadline = None

    def watch(self, connected: socket.socket) -> None:
        self._socket = connected
        if self.expired:
            self._cut()

    def _cut(self) -> None:
        self.expired = True
        if self._socket is not None:
            with suppress(OSError):
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)  # below TLS, which would want to say goodbye


class _WatchedMixin:
    sock: Any

    def connect(self) -> None:
        super().connect()  # type: ignore[misc]  # of the class that this is mixed into
        deadline = getattr(_current, "deadline", None)
        if deadline is not None and deadline.allows and not deadline.allows(self.sock.getpeername()[0]):
            self.sock.close()
            raise OSError("the address is not allowed")

    def getresponse(self) -> Any:
        deadline = getattr(_current, "deadline", None)
        if deadline is not None:
            deadline.watch(self.sock)
        return super().getresponse()  # type: ignore[misc]  # of the class that this is mixed into


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
