"""A client of the API as it asks for one: it asks again after a 5xx or a broken connection."""

import asyncio
import time
from datetime import datetime
from typing import Any

import httpx

PATIENCE_SECONDS = 180.0  # after which a request that got no good answer counts as refused
MAX_PAUSE_SECONDS = 2.0
UNFINISHED = "queued,segmenting,running,archiving,cancelling"


class UnexpectedAnswerError(Exception):
    pass


class Client:
    """One person's."""

    def __init__(self, address: str) -> None:
        limits = httpx.Limits(max_connections=100, max_keepalive_connections=20)
        self._http = httpx.AsyncClient(base_url=f"{address}/api/v2", timeout=10, limits=limits)
        self.token = ""

    async def sign_in(self, login: str, password: str) -> None:
        answer = await self.ask("POST", "/auth/login", json={"login": login, "password": password})
        self.token = str(answer["access"])
        self._http.headers["Authorization"] = f"Bearer {self.token}"

    async def close(self) -> None:
        await self._http.aclose()

    async def ask(self, method: str, path: str, **options: Any) -> Any:
        """Return the answer. Raises UnexpectedAnswerError, and httpx.HTTPError once it has lost patience."""
        return (await self.request(method, path, **options)).json()

    async def request(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Return the whole answer, in the same way."""
        deadline, pause = time.monotonic() + PATIENCE_SECONDS, 0.2
        while True:
            try:
                answer = await self._http.request(method, path, **options)
            except httpx.TransportError:
                if time.monotonic() > deadline:
                    raise
            else:
                if answer.is_success:
                    return answer
                if answer.status_code < 500 or time.monotonic() > deadline:
                    raise UnexpectedAnswerError(f"{method} {path}: {answer.status_code} {answer.text[:300]}")
            await asyncio.sleep(pause)
            pause = min(2 * pause, MAX_PAUSE_SECONDS)

    async def all(self, address: str | None) -> list[dict[str, Any]]:
        """Return what all pages of a list hold."""
        found: list[dict[str, Any]] = []
        while address:
            page = await self.ask("GET", address)
            found += page["results"]
            address = page["next"]
        return found

    async def unfinished(self, steps: set[str]) -> int:
        """Return how many commands have not ended, and of these steps, whose paths are taken out once they have."""
        for path in list(steps):
            if (await self.ask("GET", path))["finished_at"]:
                steps.discard(path)
        return len(steps) + len(await self.all(f"/commands?limit=100&status={UNFINISHED}"))

    async def give_up_on(self, seconds: float, method: str, path: str, **options: Any) -> None:
        """Send a request, and go before its answer has come. What became of it, nobody knows."""
        try:
            async with asyncio.timeout(seconds):
                await self._http.request(method, path, **options)
        except (TimeoutError, httpx.TransportError):
            return


def seconds(moment: str) -> float:
    """Return a time of the API in seconds of time.time()."""
    return datetime.fromisoformat(moment).timestamp()
