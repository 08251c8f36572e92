"""Telling a caller how its run goes on."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import httpx

if TYPE_CHECKING:
    from collections.abc import Callable

PROGRESS_INTERVAL_SECONDS = 0.5
START_DELAY_SECONDS = 0.05  # an instant run tells its end at once instead of its start first
TIMEOUT_SECONDS = 3.0
# An instant run may end before its caller has written down the id: the end is told more than once.
RETRY_DELAYS_SECONDS = (0.1, 0.3, 1.0, 3.0)


class CallbackSender:
    """POSTs a run's status to the URL its caller gave."""

    def __init__(self) -> None:
        # No proxies and no credentials out of the environment; redirects are not followed.
        self._client = httpx.AsyncClient(timeout=TIMEOUT_SECONDS, trust_env=False)

    async def close(self) -> None:
        await self._client.aclose()

    async def follow(
        self, url: str, request_id: str | None, status: Callable[[], dict[str, Any]], over: asyncio.Event
    ) -> None:
        """Tell changes at most every half second, and the end with a few retries."""
        told = None
        interval = START_DELAY_SECONDS
        while not await _is_set_within(over, interval):
            body = status()
            if body != told:
                told = body
                await self._post(url, request_id, body)
            interval = PROGRESS_INTERVAL_SECONDS
        for delay in (*RETRY_DELAYS_SECONDS, None):
            if await self._post(url, request_id, status()) or delay is None:
                return
            await asyncio.sleep(delay)

    async def _post(self, url: str, request_id: str | None, body: dict[str, Any]) -> bool:
        headers = {"Content-Type": "application/json"}
        if request_id is not None:
            headers["X-Request-ID"] = request_id
        content = json.dumps(body, ensure_ascii=False).encode()
        try:
            # Streamed, and not read: the answer's status is all that counts.
            async with (
                asyncio.timeout(TIMEOUT_SECONDS),
                self._client.stream("POST", url, content=content, headers=headers) as response,
            ):
                return response.is_success
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError):  # the last: a host no IDNA can write
            return False


async def _is_set_within(event: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False
