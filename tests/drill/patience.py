"""Waiting for commands to end, for as long as any of them still do."""

import asyncio
import time
from typing import Protocol

STANDSTILL_SECONDS = 120.0  # generous: only what does not heal by itself stands still for so long
LOOK_SECONDS = 5.0


class Commands(Protocol):
    async def ended(self) -> int: ...

    async def unfinished(self) -> int: ...


class Patience:
    """Is over when no command ends any more. A machine that is slow is given all the time that it needs."""

    def __init__(self, commands: Commands) -> None:
        self._commands = commands
        self._ended = -1
        self._moved_at = self._looked_at = time.monotonic()

    async def lasts(self) -> bool:
        now = time.monotonic()
        if now - self._looked_at > LOOK_SECONDS:
            self._looked_at = now
            ended = await self._commands.ended()
            if ended != self._ended:
                self._ended, self._moved_at = ended, now
        return now - self._moved_at < STANDSTILL_SECONDS


async def until_quiet(commands: Commands) -> None:
    patience = Patience(commands)
    while await commands.unfinished():
        if not await patience.lasts():
            return
        await asyncio.sleep(0.5)


def say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - this is what the person sees
