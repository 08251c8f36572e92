"""What happens to a request before a service sees it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, PlainTextResponse, Response

from integrations.sandbox.protocol import DROP_EXTENSION

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from integrations.sandbox.faults import Fault, FaultBoard

REQUEST_ID = "X-Request-ID"


def request_id_header(request: Request) -> dict[str, str]:
    given = request.headers.get(REQUEST_ID)
    return {} if given is None else {REQUEST_ID: given}


class RequestIDMiddleware:
    """Echoes X-Request-ID on every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        given = Headers(scope=scope).get(REQUEST_ID) if scope["type"] == "http" else None

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start" and given is not None:
                MutableHeaders(scope=message)[REQUEST_ID] = given
            await send(message)

        await self._app(scope, receive, send_with_id)


class FaultMiddleware:
    """Counts each request, then lets the faults that are on act on it."""

    def __init__(self, app: ASGIApp, faults: FaultBoard, count: Callable[[Scope], None]) -> None:
        self._app = app
        self._faults = faults
        self._count = count

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # What switches faults off must never be hit by one.
        if scope["type"] != "http" or scope["path"].startswith("/sandbox/"):
            await self._app(scope, receive, send)
            return
        self._count(scope)
        for fault in self._faults.hits(scope["method"], scope["path"]):
            if fault.kind == "slow":
                await self._faults.wait_for_change(fault.seconds)
            elif fault.kind == "drop":
                await _drop(scope, receive)
                return
            elif fault.kind == "lost_answer":
                await self._app(scope, receive, _to_nobody)
                await _drop(scope, receive)
                return
            elif fault.kind == "hang":
                await self._hang(scope, receive, send)
                return
            else:
                await _answer(fault)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    async def _hang(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer nothing until the client goes or the faults are replaced."""
        ends = {asyncio.create_task(_client_gone(receive)), asyncio.create_task(self._faults.wait_for_change())}
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for end in ends:
                end.cancel()
        # The body may have been read away by now: the request cannot be served any more.
        await JSONResponse({"detail": "The hang was lifted."}, 503)(scope, receive, send)


def _answer(fault: Fault) -> Response:
    if fault.kind == "garbage":
        if fault.variant == "wrong_shape":
            return JSONResponse(["valid", "JSON", "of", "a", "wrong", "shape"])
        return PlainTextResponse("<html><body>this is { not JSON", media_type="application/json")
    if fault.kind in {"lost_file", "lost_task"}:
        return JSONResponse({"detail": "It was announced, but it is lost."}, 404)
    headers = None if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
    return JSONResponse({"detail": "A fault was asked for."}, fault.status, headers)


async def _to_nobody(_: Message) -> None:
    pass


async def _client_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _drop(scope: Scope, receive: Receive) -> None:
    close = scope.get("extensions", {}).get(DROP_EXTENSION)
    if close is None:  # another server than ours, e.g. a test calling the application directly
        raise ConnectionResetError("The connection was dropped on purpose.")
    close()
    # Returning before the server has noticed would count as a failure to answer.
    await _client_gone(receive)
