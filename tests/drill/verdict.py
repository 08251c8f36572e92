"""What a drill comes to: what the client was told, what the gateway says, and what the services' own journals say."""

import asyncio
from collections import Counter
from collections.abc import Container
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.drill.client import seconds
from tests.drill.load import Accepted, Load
from tests.drill.system import DrillSystem

AT_ONCE = 8
# What a command may end with when a service misbehaves. All else would be a mistake of the gateway.
HONEST = ("unavailable", "left_alone", "timeout", "error", "invalid_answer", "not_found", "file_missing")
LATE = "deadline_passed"
UNCONFIRMED = "cancel_unconfirmed"  # of one that is called cancelled: the runner was away when it was asked to stop


@dataclass
class Event:
    """A fault that happened; times in seconds of time.time()."""

    name: str
    began: float
    ended: float
    healed: float | None  # when the first command that was sent after its end was completed
    hits: dict[str, list[int]] = field(default_factory=dict)  # by instance: how often each of its faults was met

    @property
    def is_applied(self) -> bool:
        """Whether every instance that was to misbehave was met, and every way of it by somebody."""
        return all(map(sum, self.hits.values())) and all(map(sum, zip(*self.hits.values(), strict=True)))

    def hits_line(self) -> str:
        return ", ".join(f"{name} {'+'.join(map(str, hits))}" for name, hits in sorted(self.hits.items()))


@dataclass
class Verdict:
    sent: int = 0
    accepted: int = 0
    completed: int = 0
    cancelled: int = 0
    to_end: int = 0  # that the client asked to cancel
    failed: Counter[str] = field(default_factory=Counter)
    refused: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    not_healed: list[str] = field(default_factory=list)
    not_applied: list[str] = field(default_factory=list)

    def rules(self) -> dict[str, list[str]]:
        """Return what must not be, and what there is of it."""
        return {
            "lost": self.lost,
            "executed twice": self.twice,
            "wrong result": self.wrong,
            "did not heal": self.not_healed,
            "not applied": self.not_applied,
        }

    @property
    def is_good(self) -> bool:
        return not (self.refused or any(self.rules().values()))

    def lines(self) -> list[str]:
        reasons = ", ".join(f"{code} {count}" for code, count in self.failed.most_common())
        return [
            f"sent                    {self.sent}",
            f"accepted                {self.accepted}{_named(self.refused, 'refused')}",
            f"completed               {self.completed}",
            f"cancelled               {self.cancelled} (of {self.to_end} that were to be)",
            f"failed with reason      {self.failed.total()}{f' ({reasons})' if reasons else ''}",
            *(f"{f'{rule} (must be 0)':36}{len(found)}{_named(found)}" for rule, found in self.rules().items()),
        ]


async def judge(load: Load, system: DrillSystem, events: list[Event]) -> tuple[Verdict, list[dict[str, Any]]]:
    """Compare everything with everything. Return the verdict, and the commands as the gateway has them."""
    commands = await load.everything()
    verdict = Verdict(sent=load.sent, accepted=len(load.accepted), refused=load.refused)
    verdict.not_healed = [event.name for event in events if event.healed is None]
    verdict.not_applied = [f"{event.name} ({event.hits_line()})" for event in events if not event.is_applied]
    known = {command["id"]: command for command in commands}
    for command_id, accepted in load.accepted.items():
        verdict.to_end += accepted.is_to_end
        judge_end(verdict, f"{accepted.number} ({command_id})", accepted, known.get(command_id))
    works = judge_works(verdict, load.accepted, await _stats(system))
    # The client sends each text once: a second command with it is one that a repeated request made.
    texts = Counter(command["text"] for command in commands)
    verdict.twice += [f"{text!r}: {count} commands" for text, count in texts.items() if count > 1]
    verdict.wrong += await _wrong(load, [command for command in commands if command["status"] == "completed"], works)
    return verdict, commands


def judge_end(
    verdict: Verdict, name: str, accepted: Accepted, command: dict[str, Any] | None, also_honest: Container[str] = ()
) -> None:
    """Judge how a command ended; `also_honest` are codes that it may fail with besides those of services."""
    if command is None or command["finished_at"] is None:
        verdict.lost.append(f"{name}: {command['status'] if command else 'unknown'}")
    elif command["status"] == "completed":
        verdict.completed += 1
    elif command["status"] == "cancelled":
        verdict.cancelled += 1
        is_late = accepted.has_deadline and (command["error"] or {}).get("code") in (LATE, UNCONFIRMED)
        if not (accepted.is_to_end or is_late):
            verdict.wrong.append(f"{name}: cancelled, and nobody asked for it")
    elif command["error"]:
        code = command["error"]["code"]
        verdict.failed[code] += 1
        if not (_is_honest(code, accepted) or code in also_honest):
            verdict.wrong.append(f"{name}: {code}")
    else:
        verdict.lost.append(f"{name}: {command['status']} without a reason")


def _is_honest(code: str, accepted: Accepted) -> bool:
    if code == LATE:
        return accepted.has_deadline
    return code in {f"{stage}_{reason}" for stage in accepted.stages for reason in HONEST}


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


async def _stats(system: DrillSystem) -> dict[str, dict[str, Any]]:
    """Return what each instance says that it did."""
    async with httpx.AsyncClient(timeout=10) as client:
        return {
            name: (await client.get(f"{address}/sandbox/stats")).json() for name, address in system.instances.items()
        }


def judge_works(verdict: Verdict, accepted: dict[str, Accepted], stats: dict[str, dict[str, Any]]) -> Counter[str]:
    """Look for what was done twice, or is work that nobody asked for. Return how often each key's work was done."""
    works: Counter[str] = Counter()
    for name, each in stats.items():
        works.update(each["works_by_key"])
        without_key = each["works"] - sum(each["works_by_key"].values())
        if without_key:
            verdict.twice.append(f"{name}: unknown work, {without_key} without a key")
    verdict.twice += [f"{key}: {count} times" for key, count in works.items() if count > 1]
    keys = {f"{command_id}:{stage}" for command_id, each in accepted.items() for stage in each.stages}
    verdict.twice += [f"{key}: unknown work" for key in works if key not in keys]
    return works


async def _wrong(load: Load, completed: list[dict[str, Any]], works: Counter[str]) -> list[str]:
    """Return what is called completed but was not done by every service, or has the output of something else."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def check(command: dict[str, Any]) -> str | None:
        accepted = load.accepted.get(command["id"])
        if accepted is None:
            return f"{command['id']}: completed, and never accepted"
        # A run that had finished before it could be stopped is completed, and not archived.
        stages = [stage for stage in accepted.stages if not (accepted.is_to_end and stage == "archive")]
        undone = [stage for stage in stages if not works[f"{command['id']}:{stage}"]]
        if undone:
            return f"{command['id']}: nothing of it at {', '.join(undone)}"
        if "runner" not in accepted.stages:
            return None if command["file"] else f"{command['id']}: no file"
        async with gate:
            output = await load.output_of(command["id"])
        expected = command["text"].partition("echo ")[2]
        return None if output.splitlines()[-1:] == [expected] else f"{command['id']}: {output!r}, not {expected!r}"

    return [problem for problem in await asyncio.gather(*map(check, completed)) if problem]


def _named(problems: list[str], word: str = "") -> str:
    if not problems:
        return ""
    return f"  {word}{': ' if word else ''}" + "; ".join(problems[:10])
