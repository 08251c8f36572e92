"""Commands, sent at a steady rate all the while, by a client as the API asks for one.

One in ten is cancelled a little later, and one in ten is a step by itself: of each service in turn.
"""

import asyncio
import json
import secrets
import time
from dataclasses import dataclass, field
from typing import Any

import httpx

from gateway.embedded.system import SERVICES
from tests.drill.client import Client, UnexpectedAnswerError
from tests.drill.system import PASSWORD


@dataclass
class Accepted:
    number: int
    kind: str | None  # of a step: its service
    is_to_end: bool = False  # its cancellation was asked for
    has_deadline: bool = False
    user: int = 0  # whose it is, of several
    goes_on_from: str | None = None  # the command that it repeats, after the last stage that succeeded

    @property
    def stages(self) -> tuple[str, ...]:
        return SERVICES if self.kind is None else (self.kind,)


@dataclass
class Load:
    """Sends commands, each with a number and an idempotency key of its own, and repeats what got no good answer."""

    address: str
    rate: float
    sent: int = 0
    accepted: dict[str, Accepted] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._client = Client(self.address)
        self._run = secrets.token_hex(4)
        self._stopped = asyncio.Event()
        self._under_way: set[asyncio.Task[None]] = set()
        self._open_steps: set[str] = set()  # paths of those that have not ended, as far as is known

    async def sign_in(self) -> None:
        await self._client.sign_in("demo", PASSWORD)

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
        await self._client.close()

    async def newest_completed(self) -> dict[str, Any] | None:
        found = await self._client.ask("GET", "/commands", params={"status": "completed", "limit": 1})
        return next(iter(found["results"]), None)

    async def unfinished(self) -> int:
        return await self._client.unfinished(self._open_steps)

    async def ended(self) -> int:
        return len(self.accepted) - await self.unfinished()

    async def everything(self) -> list[dict[str, Any]]:
        """Return all commands, and all steps as if they were commands."""
        steps = [(step_id, step) for step_id, step in self.accepted.items() if step.kind]
        return await self._client.all("/commands?limit=100") + [
            {"text": text_of(step.number), **await self._client.ask("GET", f"/{step.kind}/{step_id}")}
            for step_id, step in steps
        ]

    async def output_of(self, command_id: str) -> str:
        return str((await self._client.ask("GET", f"/commands/{command_id}/result"))["output"])

    async def _send(self, number: int) -> None:
        kind, headers = step_of(number), {"Idempotency-Key": f"drill-{self._run}-{number}"}
        try:
            answer = await self._client.ask("POST", f"/{kind or 'commands'}", json=body_of(number), headers=headers)
            self.accepted[answer["id"]] = accepted = Accepted(number, kind)
            if kind:
                self._open_steps.add(f"/{kind}/{answer['id']}")
            if number % 10 == 0:
                await self._cancel(answer["id"], accepted)
        except (UnexpectedAnswerError, httpx.HTTPError) as error:
            self.refused.append(f"{number}: {error!r}")

    async def _cancel(self, command_id: str, accepted: Accepted) -> None:
        await asyncio.sleep(accepted.number // 10 % 4)  # so that it meets all stages
        accepted.is_to_end = True
        try:
            await self._client.ask("POST", f"/commands/{command_id}/cancel")
        except UnexpectedAnswerError as error:
            if "command_not_cancellable" not in str(error):  # it has ended before
                raise


def text_of(number: int) -> str:
    """Return a command whose output ends with its number. Some run for a moment, so that there are runs to be hit."""
    if number % 10 == 0:
        return f"sleep 3 then echo drill {number}"
    return f"sleep 1 then echo drill {number}" if number % 3 == 0 else f"echo drill {number}"


def step_of(number: int) -> str | None:
    """Return the service of a step by itself, or None for a whole command."""
    return SERVICES[number // 10 % len(SERVICES)] if number % 10 == 5 else None


def body_of(number: int) -> dict[str, Any]:
    kind = step_of(number)
    return body(kind, f"drill-{number}", f"echo drill {number}" if kind == "runner" else text_of(number))


def body(kind: str | None, name: str, text: str) -> dict[str, Any]:
    """Return what is sent for a whole command, or for a step by itself of that kind."""
    match kind:
        case "runner":
            return {"content": json.dumps({"id": name, "segments": [{"id": "s1", "content": text}]})}
        case "archive":
            last = {"id": name, "status": "success", "success_rate": 1.0, "task_results": {}}
            return {"content": json.dumps(last)}
        case _:
            return {"text": text}
