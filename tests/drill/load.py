"""Commands, sent at a steady rate all the while, by a client as the API asks for one."""

import asyncio
import secrets
import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import httpx

from tests.drill.system import PASSWORD

PATIENCE_SECONDS = 180.0  # after which a command that was not accepted counts as refused
MAX_PAUSE_SECONDS = 2.0
UNFINISHED = "queued,segmenting,running,archiving,cancelling"


class UnexpectedAnswerError(Exception):
    pass


@dataclass
class Accepted:
    number: int
    at: float  # seconds of time.time(), when it was sent first


@dataclass
class Load:
    """Sends commands, each with a number and an idempotency key of its own, and repeats what got no good answer."""

    address: str
    rate: float
    sent: int = 0
    accepted: dict[str, Accepted] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        limits = httpx.Limits(max_connections=100, max_keepalive_connections=20)
        self._client = httpx.AsyncClient(base_url=f"{self.address}/api/v2", timeout=10, limits=limits)
        self._run = secrets.token_hex(4)
        self._stopped = asyncio.Event()
        self._under_way: set[asyncio.Task[None]] = set()

    async def sign_in(self) -> None:
        answer = await self._ask("POST", "/auth/login", json={"login": "demo", "password": PASSWORD})
        self._client.headers["Authorization"] = f"Bearer {answer['access']}"

    async def go_on(self) -> None:
        """Send commands until `stop` is called."""
        began, first = time.monotonic(), self.sent
        while not self._stopped.is_set():
            self.sent += 1
            task = asyncio.create_task(self._send(self.sent))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)
            due = began + (self.sent - first) / self.rate
            await asyncio.sleep(max(due - time.monotonic(), 0))

    async def stop(self) -> None:
        """Send no more, and wait for what is under way."""
        self._stopped.set()
        await asyncio.gather(*self._under_way)

    async def close(self) -> None:
        for task in self._under_way:
            task.cancel()
        await self._client.aclose()

    async def newest_completed(self) -> dict[str, Any] | None:
        found = await self._ask("GET", "/commands", params={"status": "completed", "limit": 1})
        return next(iter(found["results"]), None)

    async def unfinished(self) -> int:
        return len(await self._all(f"/commands?limit=100&status={UNFINISHED}"))

    async def ended(self) -> int:
        return len(self.accepted) - await self.unfinished()

    async def everything(self) -> list[dict[str, Any]]:
        return await self._all("/commands?limit=100")

    async def output_of(self, command_id: str) -> str:
        return str((await self._ask("GET", f"/commands/{command_id}/result"))["output"])

    async def _send(self, number: int) -> None:
        key, at = f"drill-{self._run}-{number}", time.time()
        try:
            answer = await self._ask(
                "POST", "/commands", json={"text": text_of(number)}, headers={"Idempotency-Key": key}
            )
        except (UnexpectedAnswerError, httpx.HTTPError) as error:
            self.refused.append(f"{number}: {error!r}")
        else:
            self.accepted[answer["id"]] = Accepted(number, at)

    async def _all(self, address: str | None) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while address:
            page = await self._ask("GET", address)
            found += page["results"]
            address = page["next"]
        return found

    async def _ask(self, method: str, path: str, **options: Any) -> Any:
        """Return the answer, asking again after a 5xx or a broken connection. Raises UnexpectedAnswerError."""
        deadline, pause = time.monotonic() + PATIENCE_SECONDS, 0.2
        while True:
            try:
                answer = await self._client.request(method, path, **options)
            except httpx.TransportError:
                if time.monotonic() > deadline:
                    raise
            else:
                if answer.is_success:
                    return answer.json()
                if answer.status_code < 500 or time.monotonic() > deadline:
                    raise UnexpectedAnswerError(f"{method} {path}: {answer.status_code} {answer.text[:300]}")
            await asyncio.sleep(pause)
            pause = min(2 * pause, MAX_PAUSE_SECONDS)


def text_of(number: int) -> str:
    """Return a command whose output ends with its number. Some run for a moment, so that there are runs to be hit."""
    return f"sleep 1 then echo drill {number}" if number % 3 == 0 else f"echo drill {number}"


def seconds(moment: str) -> float:
    """Return a time of the API in seconds of time.time()."""
    return datetime.fromisoformat(moment).timestamp()
