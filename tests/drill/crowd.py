"""Several people who send commands as a plan says, cancel some, send some twice, and never lose a number."""

import asyncio
import secrets
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any

import httpx

from tests.drill.client import Client, UnexpectedAnswerError
from tests.drill.load import Accepted, body
from tests.drill.patience import Patience
from tests.drill.plan import USERS, Order
from tests.drill.system import PASSWORD


@dataclass
class Crowd:
    """`accepted` holds what was answered with 201, or would have been if the answer had come."""

    address: str
    sent: int = 0
    accepted: dict[str, Accepted] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    too_late: int = 0  # with a deadline that had passed when they could be sent
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
            for _batch, some in groupby(orders, key=lambda order: order.batch or -order.number):
                together = list(some)
                await asyncio.sleep(max(began + together[0].at - time.monotonic(), 0))
                self.sent += len(together)
                group.create_task(self._send(together))

    async def close(self) -> None:
        for client in self.clients:
            await client.close()

    async def unfinished(self) -> int:
        counts = [await client.unfinished(steps) for client, steps in zip(self.clients, self._open_steps, strict=True)]
        return sum(counts)

    async def ended(self) -> int:
        return len(self.accepted) - await self.unfinished()

    async def _send(self, orders: list[Order]) -> None:
        try:
            made = await (self._submit(orders[0]) if orders[0].batch is None else self._submit_together(orders))
            await asyncio.gather(*(self._follow(order, command_id) for order, command_id in made))
        except (UnexpectedAnswerError, httpx.HTTPError) as error:
            self._refuse(orders[0], str(error) or repr(error))

    def _refuse(self, order: Order, why: str) -> None:
        """Put down what was not accepted. While web is away, a deadline may pass: that is no fault."""
        if order.deadline is not None and "deadline" in why:
            self.too_late += 1
        else:
            self.refused.append(f"{order.number}: {why}")

    async def _submit(self, order: Order) -> list[tuple[Order, str]]:
        """Send it as often as the plan says, always with the same key. Return the id of the one command it makes."""
        client, path = self.clients[order.user], f"/{order.kind or 'commands'}"
        options = {"json": self._body(order), "headers": self._key(order.number)}
        if order.given_up_after is not None:
            await client.give_up_on(order.given_up_after, "POST", path, **options)
        times = 2 if order.is_sent_twice else 1
        answers = await asyncio.gather(*(client.ask("POST", path, **options) for _ in range(times)))
        ids = sorted({str(answer["id"]) for answer in answers})
        if len(ids) > 1:
            self.twice.append(f"{order.number}: {', '.join(ids)} for one key")
        for command_id in ids:
            self._accept(order, command_id)
            if order.kind:
                self._open_steps[order.user].add(f"{path}/{command_id}")
        return [(order, ids[0])]

    async def _submit_together(self, orders: list[Order]) -> list[tuple[Order, str]]:
        first, client = orders[0], self.clients[orders[0].user]
        options = {"json": {"commands": [self._body(order) for order in orders]}, "headers": self._key(first.number)}
        if first.given_up_after is not None:
            await client.give_up_on(first.given_up_after, "POST", "/commands/bulk", **options)
        answers = (await client.ask("POST", "/commands/bulk", **options))["results"]
        made = []
        for order, answer in zip(orders, answers, strict=True):
            if "command" in answer:
                made.append((order, str(answer["command"]["id"])))
                self._accept(*made[-1])
            else:
                self._refuse(order, str(answer))
        return made

    async def _follow(self, order: Order, command_id: str) -> None:
        """Cancel it, and retry it, if that is the plan."""
        if order.cancelled_after is not None:
            await asyncio.sleep(order.cancelled_after)
            await self._cancel(order, command_id)
        if order.retried is not None:
            await self._retry(order, command_id)

    async def _cancel(self, order: Order, command_id: str) -> None:
        self.accepted[command_id].is_to_end = True
        client = self.clients[order.user]
        if order.batch is not None:
            await client.ask("POST", "/commands/bulk-cancel", json={"ids": [command_id]})
            return
        try:
            await client.ask("POST", f"/commands/{command_id}/cancel")
        except UnexpectedAnswerError as error:
            if "command_not_cancellable" not in str(error):  # it has ended before
                raise

    async def _retry(self, order: Order, command_id: str) -> None:
        """Wait for its end, and if it did not complete, send it once more."""
        client, patience = self.clients[order.user], Patience(self)
        while not (command := await client.ask("GET", f"/commands/{command_id}"))["finished_at"]:
            if not await patience.lasts():
                return
            await asyncio.sleep(1.0)
        if command["status"] != "completed":
            body = {"from": "start"} if order.retried == "start" else {}
            path, key = f"/commands/{command_id}/retry", self._key(f"again-{order.number}")
            again = await client.ask("POST", path, json=body, headers=key)
            self._accept(order, str(again["id"]))
            if order.retried != "start":
                self.accepted[str(again["id"])].goes_on_from = command_id

    def _accept(self, order: Order, command_id: str) -> None:
        has_deadline = order.deadline is not None
        self.accepted[command_id] = Accepted(order.number, order.kind, has_deadline=has_deadline, user=order.user)

    def _key(self, of: int | str) -> dict[str, str]:
        return {"Idempotency-Key": f"chaos-{self._run}-{of}"}

    def _body(self, order: Order) -> dict[str, Any]:
        made = body(order.kind, f"chaos-{order.number}", order.text)
        if order.kind is None:
            made["priority"] = order.priority
            if order.deadline is not None:
                made["deadline"] = (datetime.now(UTC) + timedelta(seconds=order.deadline)).isoformat()
        return made
