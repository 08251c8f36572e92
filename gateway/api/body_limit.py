"""Refuses a body that is too large while it arrives. Django itself spools it whole before any view runs."""

import json
from typing import TYPE_CHECKING

from django.conf import settings

from gateway.api.errors import ErrorCode
from gateway.api.problems import CONTENT_TYPE, problem
from gateway.request_id import HEADER, accepted_or_new, request_id

if TYPE_CHECKING:
    from asgiref.typing import (
        ASGI3Application,
        ASGIReceiveCallable,
        ASGIReceiveEvent,
        ASGISendCallable,
        HTTPScope,
        Scope,
    )


MAX_LENGTH_DIGITS = 18


class BodyLimit:
    """ASGI middleware around Django's HTTP application."""

    def __init__(self, app: "ASGI3Application") -> None:
        self.app = app

    async def __call__(self, scope: "Scope", receive: "ASGIReceiveCallable", send: "ASGISendCallable") -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        announced = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        if not announced.isdigit() or len(announced) > MAX_LENGTH_DIGITS or int(announced) > settings.MAX_BODY_BYTES:
            await self._refuse(scope, send)
            return
        received = 0

        async def counting_receive() -> "ASGIReceiveEvent":
            nonlocal received
            message = await receive()
            if message["type"] == "http.request":
                received += len(message.get("body", b""))
            # The application cleans up after a client that went away, and sends nothing.
            return message if received <= settings.MAX_BODY_BYTES else {"type": "http.disconnect"}

        await self.app(scope, counting_receive, send)
        if received > settings.MAX_BODY_BYTES:
            await self._refuse(scope, send)

    async def _refuse(self, scope: "HTTPScope", send: "ASGISendCallable") -> None:
        given = next(
            (value.decode("latin-1") for name, value in scope["headers"] if name == HEADER.lower().encode()), None
        )
        request_id.set(accepted_or_new(given))
        body = json.dumps(problem(ErrorCode.BODY_TOO_LARGE)).encode()
        headers = [
            (b"content-type", CONTENT_TYPE.encode()),
            (b"content-length", str(len(body)).encode()),
            (HEADER.lower().encode(), request_id.get().encode()),
            (b"connection", b"close"),  # what is left of the body is not worth reading
        ]
        await send({"type": "http.response.start", "status": 413, "headers": headers, "trailers": False})
        await send({"type": "http.response.body", "body": body, "more_body": False})
