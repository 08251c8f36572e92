"""What a drill comes to: what the client was told, what the gateway says, and what the services' own journals say."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import httpx

from gateway.embedded.system import SERVICES
from tests.drill.load import Load, seconds
from tests.drill.system import DrillSystem

AT_ONCE = 8


@dataclass
class Event:
    """A fault that happened; times in seconds of time.time()."""

    name: str
    began: float
    ended: float
    healed: float | None  # when the first command that was sent after its end was completed


@dataclass
class Verdict:
    sent: int = 0
    accepted: int = 0
    completed: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    refused: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    not_healed: list[str] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        return not (self.refused or self.lost or self.twice or self.wrong or self.not_healed)

    def lines(self) -> list[str]:
        reasons = ", ".join(f"{code} {count}" for code, count in self.failed.most_common())
        return [
            f"sent                    {self.sent}",
            f"accepted                {self.accepted}{_named(self.refused, 'refused')}",
            f"completed               {self.completed}",
            f"failed with reason      {self.failed.total()}{f' ({reasons})' if reasons else ''}",
            f"lost (must be 0)        {len(self.lost)}{_named(self.lost)}",
            f"executed twice (0)      {len(self.twice)}{_named(self.twice)}",
            f"wrong result (0)        {len(self.wrong)}{_named(self.wrong)}",
            f"did not heal (0)        {len(self.not_healed)}{_named(self.not_healed)}",
        ]


async def judge(load: Load, system: DrillSystem, events: list[Event]) -> tuple[Verdict, list[dict[str, Any]]]:
    """Compare everything with everything. Return the verdict, and the commands as the gateway has them."""
    commands = await load.everything()
    works = await _works(system)
    verdict = Verdict(sent=load.sent, accepted=len(load.accepted), refused=load.refused)
    verdict.not_healed = [event.name for event in events if event.healed is None]
    known = {command["id"]: command for command in commands}
    for command_id, accepted in load.accepted.items():
        command = known.get(command_id)
        if command is None or command["finished_at"] is None:
            verdict.lost.append(f"{accepted.number}: {command['status'] if command else 'unknown'} {command_id}")
        elif command["status"] == "completed":
            verdict.completed += 1
        elif command["error"]:
            verdict.failed[command["error"]["code"]] += 1
        else:
            verdict.lost.append(f"{accepted.number}: {command['status']} without a reason {command_id}")
    verdict.twice = [f"{key}: {count} times" for key, count in works.items() if count > 1]
    # The client sends each text once: a second command with it is one that a repeated request made.
    texts = Counter(command["text"] for command in commands)
    verdict.twice += [f"{text!r}: {count} commands" for text, count in texts.items() if count > 1]
    verdict.wrong = await _wrong(load, [command for command in commands if command["status"] == "completed"], works)
    return verdict, commands


def healing(events: list[Event], commands: list[dict[str, Any]]) -> list[str]:
    """Return a line for each fault: how long it took, from its end, until all was well."""
    lines = []
    for event in events:
        meanwhile = [
            seconds(command["finished_at"])
            for command in commands
            if event.began <= seconds(command["created_at"]) <= event.ended and command["finished_at"]
        ]
        backlog = max([at - event.ended for at in meanwhile], default=0.0)
        healed = "never" if event.healed is None else f"{event.healed - event.ended:5.1f} s"
        lasted, waited = event.ended - event.began, max(backlog, 0.0)
        lines.append(f"{lasted:5.1f} s   {healed:>7}   {waited:5.1f} s ({len(meanwhile):3})   {event.name}")
    return lines


async def _works(system: DrillSystem) -> Counter[str]:
    """Return how often each work was done, by its idempotency key, over all instances."""
    works: Counter[str] = Counter()
    async with httpx.AsyncClient(timeout=10) as client:
        for address in system.instances.values():
            works.update((await client.get(f"{address}/sandbox/stats")).json()["works_by_key"])
    return works


async def _wrong(load: Load, completed: list[dict[str, Any]], works: Counter[str]) -> list[str]:
    """Return what is called completed but was not done by every service, or has the output of something else."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def check(command: dict[str, Any]) -> str | None:
        undone = [kind for kind in SERVICES if not works[f"{command['id']}:{kind}"]]
        if undone:
            return f"{command['id']}: nothing of it at {', '.join(undone)}"
        async with gate:
            output = await load.output_of(command["id"])
        expected = command["text"].partition("echo ")[2]
        return None if output.splitlines()[-1:] == [expected] else f"{command['id']}: {output!r}, not {expected!r}"

    return [problem for problem in await asyncio.gather(*map(check, completed)) if problem]


def _named(problems: list[str], word: str = "") -> str:
    if not problems:
        return ""
    return f"  {word}{': ' if word else ''}" + "; ".join(problems[:10])
