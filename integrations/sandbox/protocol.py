"""The one thing ASGI has no word for: closing a connection without an answer."""

from __future__ import annotations

from typing import cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

DROP_EXTENSION = "sandbox.drop"


class DroppableProtocol(HttpToolsProtocol):
    """Hands the application a function that closes the request's connection."""

    def on_message_begin(self) -> None:
        super().on_message_begin()
        scope = cast("dict[str, object]", self.scope)
        scope["extensions"] = {DROP_EXTENSION: self.transport.close}
