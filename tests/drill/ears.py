"""People who follow all their commands by socket, and lose the connection again and again."""

import asyncio
import json
from random import Random
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException

from tests.drill.crowd import Crowd

ENDED = ("completed", "failed", "cancelled")
PAUSE_SECONDS = 0.3
LOOK_SECONDS = 0.2  # for commands that are new


class Ear:
    """Of one user. `heard` has the numbers of the events that came for each command, as they came."""

    def __init__(self, crowd: Crowd, user: int, seed: int) -> None:
        self._crowd, self._user = crowd, user
        self._dice = Random(seed)  # noqa: S311 - no secret
        self.heard: dict[str, list[int]] = {}
        self.ended: set[str] = set()
        self.connections = 0

    async def listen(self) -> None:
        """Go on until it is cancelled."""
        address = f"ws{self._crowd.address.removeprefix('http')}/ws"
        headers = {"Authorization": f"Bearer {self._crowd.clients[self._user].token}"}
        while True:
            try:
                async with connect(address, additional_headers=headers, open_timeout=5, close_timeout=1) as socket:
                    self.connections += 1
                    await self._follow(socket, asyncio.get_running_loop().time() + self._dice.uniform(0.5, 6.0))
            except (OSError, WebSocketException, TimeoutError):
                pass
            await asyncio.sleep(PAUSE_SECONDS)

    def is_waiting(self) -> bool:
        """Return whether there is a command whose end it has not heard of."""
        return bool(self._mine() - self.ended)

    async def _follow(self, socket: ClientConnection, until: float) -> None:
        joined: set[str] = set()
        while (now := asyncio.get_running_loop().time()) < until:
            new = sorted(self._mine() - self.ended - joined)[:100]
            if new:
                joined |= set(new)
                after = {f"command:{each}": self.heard[each][-1] for each in new if self.heard.get(each)}
                rooms = [f"command:{each}" for each in new]
                await socket.send(json.dumps({"type": "subscribe", "payload": {"rooms": rooms, "after": after}}))
            try:
                async with asyncio.timeout(min(LOOK_SECONDS, until - now)):
                    frame = json.loads(await socket.recv())
            except TimeoutError:
                continue
            if frame["type"] == "command.event":
                self._hear(frame["payload"])

    def _hear(self, event: dict[str, Any]) -> None:
        command_id = event["command"]["id"]
        self.heard.setdefault(command_id, []).append(event["seq"])
        if event["command"]["status"] in ENDED:
            self.ended.add(command_id)

    def _mine(self) -> set[str]:
        return {command_id for command_id, each in self._crowd.accepted.items() if each.user == self._user}
