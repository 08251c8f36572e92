"""Several people who send commands as a plan says, cancel some, send some twice, and never lose a number."""

import asyncio
import secrets
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from tests.drill.client import Client, UnexpectedAnswerError
from tests.drill.load import Accepted, body
from tests.drill.plan import USERS, Order
from tests.drill.system import PASSWORD


@dataclass
class Crowd:
    """`accepted` holds what was answered with 201, or would have been if the answer had come."""

    address: str
    sent: int = 0
    accepted: dict[str, Accepted] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)  # keys that two commands were made for

    def __post_init__(self) -> None:
        self.clients = [Client(self.address) for _user in USERS]
        self._run = secrets.token_hex(4)
        self._open_steps: list[set[str]] = [set() for _user in USERS]
        self._under_way: set[asyncio.Task[None]] = set()

    async def sign_in(self) -> None:
        for client, user in zip(self.clients, USERS, strict=True):
            await client.sign_in(user, PASSWORD)

    async def send(self, orders: list[Order], began: float) -> None:
        """Send each at its time, and wait until all are accepted, and cancelled if they are to be."""
        async with asyncio.TaskGroup() as group:
            for order in orders:
                await asyncio.sleep(max(began + order.at - time.monotonic(), 0))
                self.sent += 1
                group.create_task(self._send(order))

    async def close(self) -> None:
        for client in self.clients:
            await client.close()

    async def unfinished(self) -> int:
        counts = [await client.unfinished(steps) for client, steps in zip(self.clients, self._open_steps, strict=True)]
        return sum(counts)

    async def ended(self) -> int:
        return len(self.accepted) - await self.unfinished()

    async def _send(self, order: Order) -> None:
        try:
            command_id = await self._submit(order)
            if order.cancelled_after is not None:
                await asyncio.sleep(order.cancelled_after)
                await self._cancel(order, command_id)
        except (UnexpectedAnswerError, httpx.HTTPError) as error:
            self.refused.append(f"{order.number}: {error!r}")

    async def _submit(self, order: Order) -> str:
        """Send it as often as the plan says, always with the same key. Return the id of the one command it makes."""
        client, path = self.clients[order.user], f"/{order.kind or 'commands'}"
        options = {"json": self._body(order), "headers": {"Idempotency-Key": f"chaos-{self._run}-{order.number}"}}
        if order.given_up_after is not None:
            await client.give_up_on(order.given_up_after, "POST", path, **options)
        times = 2 if order.is_sent_twice else 1
        answers = await asyncio.gather(*(client.ask("POST", path, **options) for _ in range(times)))
        ids = sorted({str(answer["id"]) for answer in answers})
        if len(ids) > 1:
            self.twice.append(f"{order.number}: {', '.join(ids)} for one key")
        for command_id in ids:
            self.accepted[command_id] = Accepted(
                order.number, order.kind, has_deadline=order.deadline is not None, user=order.user
            )
            if order.kind:
                self._open_steps[order.user].add(f"{path}/{command_id}")
        return ids[0]

    def _body(self, order: Order) -> dict[str, Any]:
        made = body(order.kind, f"chaos-{order.number}", order.text)
        if order.kind is None:
            made["priority"] = order.priority
            if order.deadline is not None:
                made["deadline"] = (datetime.now(UTC) + timedelta(seconds=order.deadline)).isoformat()
        return made

    async def _cancel(self, order: Order, command_id: str) -> None:
        self.accepted[command_id].is_to_end = True
        try:
            await self.clients[order.user].ask("POST", f"/commands/{command_id}/cancel")
        except UnexpectedAnswerError as error:
            if "command_not_cancellable" not in str(error):  # it has ended before
                raise
