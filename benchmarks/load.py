"""A load generator of plain asyncio: a client library would cost more than the server does."""

import asyncio
import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

SECONDS, CLIENTS = 1.0, 8


class UnexpectedAnswerError(Exception):
    pass


@dataclass(frozen=True)
class Server:
    """Where requests go, and as whom."""

    port: int
    token: str = ""

    def request(self, method: str, path: str, body: object = None) -> bytes:
        content = "" if body is None else json.dumps(body)
        lines = [
            f"{method} {path} HTTP/1.1",
            f"Host: 127.0.0.1:{self.port}",
            f"Authorization: Bearer {self.token}",
            # What the proxy adds; without the first, the request would be redirected.
            "X-Forwarded-Proto: https",
            "X-Forwarded-For: 127.0.0.1",
            "Content-Type: application/json",
            f"Content-Length: {len(content)}",
        ]
        return ("\r\n".join(lines) + "\r\n\r\n" + content).encode()


class Connection:
    """One connection that is kept, for one request after the other."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, server: Server) -> Self:
        return cls(*await asyncio.open_connection("127.0.0.1", server.port))

    def close(self) -> None:
        self._writer.close()

    async def ask(self, request: bytes) -> bytes:
        """Return the body of the answer. Raises UnexpectedAnswerError if it is not a good one."""
        self._writer.write(request)
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        body = await self._reader.readexactly(int(head.partition(b"content-length: ")[2].split(b"\r\n")[0] or 0))
        if not head.startswith(b"http/1.1 20"):
            raise UnexpectedAnswerError(f"{head.decode()}{body.decode(errors='replace')}")
        return body

    async def ask_until(self, request: bytes, until: float) -> int:
        """Ask again and again. Return how often."""
        answers = 0
        while time.perf_counter() < until:
            await self.ask(request)
            answers += 1
        return answers


async def _all(server: Server, clients: int) -> list[Connection]:
    return await asyncio.gather(*(Connection.open(server) for _ in range(clients)))


def _close(connections: Iterable[Connection]) -> None:
    for connection in connections:
        connection.close()


def rate(server: Server, request: bytes) -> float:
    """Return the answers per second to CLIENTS connections, each asking one request after the other."""

    async def side_by_side() -> float:
        connections = await _all(server, CLIENTS)
        start = time.perf_counter()
        answers = await asyncio.gather(*(one.ask_until(request, start + SECONDS) for one in connections))
        seconds = time.perf_counter() - start
        _close(connections)
        return sum(answers) / seconds

    return asyncio.run(side_by_side())


def at_once(server: Server, request: bytes, times: int) -> list[Any]:
    """Send the request on as many connections at the same time. Return the answers."""

    async def all_at_once() -> list[bytes]:
        connections = await _all(server, times)
        answers = await asyncio.gather(*(one.ask(request) for one in connections))
        _close(connections)
        return answers

    return [json.loads(answer) for answer in asyncio.run(all_at_once())]
