"""Answers that no caller should get."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse

from integrations.sandbox.identity import new_id

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.types import ASGIApp, Message, Receive, Scope

    from integrations.sandbox.faults import Fault
    from integrations.sandbox.protocol import Connection

HUGE_BYTES = 50 * 1024 * 1024
CHUNK = b" " * 64 * 1024
HALF_JSON = b'{"id": "1", "status": "comp'
# What is sent of an answer before the connection breaks: part of the headers, or all of them and part of the body.
BEGINNINGS = {
    "headers": b"HTTP/1.1 200 OK\r\nContent-Type: applic",
    "body": b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n" + HALF_JSON,
}
ID_MEMBERS = ("id", "taskId")


def answer_to(fault: Fault) -> Response:
    """Return the answer that a fault gives in the place of the service."""
    if fault.kind == "garbage":
        return _garbage(fault.variant)
    if fault.kind in {"lost_file", "lost_task"}:
        return JSONResponse({"detail": "It was announced, but it is lost."}, 404)
    headers = None if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
    return JSONResponse({"detail": "A fault was asked for."}, fault.status, headers)


def _garbage(variant: str) -> Response:
    if variant == "wrong_shape":
        return JSONResponse(["valid", "JSON", "of", "a", "wrong", "shape"])
    if variant == "html":
        return HTMLResponse("<!doctype html><title>Welcome</title><p>This is another server.")
    if variant == "truncated":
        return Response(HALF_JSON, media_type="application/json")
    if variant == "huge":
        headers = {"Content-Length": str(HUGE_BYTES)}
        return StreamingResponse(_huge(), media_type="application/json", headers=headers)
    return PlainTextResponse("<html><body>this is { not JSON", media_type="application/json")


async def _huge() -> AsyncIterator[bytes]:
    """Yield valid JSON that takes 50 MB to say nothing."""
    yield b"{"
    left = HUGE_BYTES - 2
    while left:
        size = min(left, len(CHUNK))
        yield CHUNK[:size]
        left -= size
    yield b"}"


async def dripping(connection: Connection, seconds: float) -> None:
    """Send a byte every so many seconds, for ever."""
    while True:
        connection.write(b"x")
        await asyncio.sleep(seconds)


async def answer_of(app: ASGIApp, scope: Scope, receive: Receive) -> Response:
    """Let the service do what it was asked to, and return its answer instead of sending it."""
    messages: list[Message] = []

    async def keep(message: Message) -> None:
        messages.append(message)

    await app(scope, receive, keep)
    body = b"".join(message.get("body", b"") for message in messages[1:])
    return Response(body, messages[0]["status"], media_type="application/json")


def another_id(answer: Response) -> Response:
    """Return the answer with the id of something else."""
    body = json.loads(bytes(answer.body))
    for member in ID_MEMBERS:
        if member in body:
            body[member] = new_id()
    return JSONResponse(body, answer.status_code)


def raw(answer: Response) -> bytes:
    """Return the bytes of an answer after which the connection stays open."""
    headers = b"".join(name + b": " + value + b"\r\n" for name, value in answer.raw_headers)
    return f"HTTP/1.1 {answer.status_code} Said\r\n".encode() + headers + b"\r\n" + bytes(answer.body)
