"""The one thing ASGI has no word for: breaking off, or breaking the rules of, the connection under a request."""

from __future__ import annotations

import os
import socket
import struct
from typing import TYPE_CHECKING, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

if TYPE_CHECKING:
    from asyncio import Transport

    from starlette.types import Scope

EXTENSION = "sandbox.connection"


class Connection:
    """The connection that a request came on."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def write(self, content: bytes) -> None:
        """Send bytes as they are."""
        self._transport.write(content)

    def close(self) -> None:
        self._transport.close()

    def reset(self) -> None:
        """Break the connection with a RST instead of saying goodbye."""
        # The event loop's own object offers no options, so they are set on a copy of the descriptor.
        with socket.socket(fileno=os.dup(self._transport.get_extra_info("socket").fileno())) as copy:
            copy.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()


def connection_of(scope: Scope) -> Connection:
    found = scope.get("extensions", {}).get(EXTENSION)
    if found is None:  # another server than ours, e.g. a test calling the application directly
        raise ConnectionResetError("The connection was dropped on purpose.")
    return cast("Connection", found)


class SandboxProtocol(HttpToolsProtocol):
    """Hands the application the request's connection."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        scope = cast("dict[str, object]", self.scope)
        scope["extensions"] = {EXTENSION: Connection(self.transport)}
