"""What happens to a request before a service sees it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse

from integrations.sandbox.bad_answers import BEGINNINGS, another_id, answer_of, answer_to, dripping, raw
from integrations.sandbox.protocol import connection_of

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

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
                continue
            await self._act(fault, scope, receive, send)
            return
        await self._app(scope, receive, send)

    async def _act(self, fault: Fault, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the fault answer, or not answer, in the place of the service."""
        if fault.kind in {"wrong_id", "duplicate"}:
            answer = await answer_of(self._app, scope, receive)
            if fault.kind == "wrong_id":
                await another_id(answer)(scope, receive, send)
            else:
                connection_of(scope).write(raw(answer))
                await answer(scope, receive, send)
            return
        if fault.done or fault.kind == "lost_answer":
            await self._app(scope, receive, _to_nobody)
        elif fault.breaks_off:
            await _body_has_come(receive)  # else it is a matter of luck whether the client is still sending it
        if fault.kind == "hang":
            await self._hang(scope, receive, send)
        elif fault.breaks_off:
            await self._break_off(fault, scope, receive)
        else:
            await answer_to(fault)(scope, receive, send)

    async def _break_off(self, fault: Fault, scope: Scope, receive: Receive) -> None:
        """Answer in part, and break the connection; all at once, or after a long time of a byte now and then."""
        connection = connection_of(scope)
        if fault.kind in {"drop", "lost_answer"}:
            connection.close()
        elif fault.kind == "garbage":
            connection.write(BEGINNINGS["body"])
            connection.close()
        else:
            connection.write(BEGINNINGS[fault.where])
            if fault.kind == "drip":
                await self._until_lifted(receive, dripping(connection, fault.seconds))
            connection.reset()
        # Returning before the server has noticed would count as a failure to answer.
        await _client_gone(receive)

    async def _hang(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer nothing until the client goes or the faults are replaced."""
        await self._until_lifted(receive)
        # The body may have been read away by now: the request cannot be served any more.
        await JSONResponse({"detail": "The hang was lifted."}, 503)(scope, receive, send)

    async def _until_lifted(self, receive: Receive, *meanwhile: Coroutine[None, None, None]) -> None:
        """Wait until the client goes or the faults are replaced."""
        waits = (_client_gone(receive), self._faults.wait_for_change(), *meanwhile)
        ends = {asyncio.create_task(each) for each in waits}
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for end in ends:
                end.cancel()


async def _to_nobody(_: Message) -> None:
    pass


async def _body_has_come(receive: Receive) -> None:
    while (await receive()).get("more_body"):
        pass


async def _client_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
