"""What a chaos run comes to: every promise, and who says that it was broken: database, API, sockets or services."""

import asyncio
import hashlib
import json
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.drill.client import Client, UnexpectedAnswerError, seconds
from tests.drill.crowd import Crowd
from tests.drill.ears import Ear
from tests.drill.system import DrillSystem
from tests.drill.verdict import UNCONFIRMED, Verdict, judge_end, judge_works

AT_ONCE = 4
FILES = 3
# Besides the services' own: many workers die here, and a command may have been with each of them.
DEATHS = ("worker_lost", "poisoned")


@dataclass
class Outcome(Verdict):
    events: list[str] = field(default_factory=list)  # in the database
    read: list[str] = field(default_factory=list)  # by GET events
    heard: list[str] = field(default_factory=list)  # by sockets
    leases: list[str] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    at_work: list[str] = field(default_factory=list)

    def rules(self) -> dict[str, list[str]]:
        return super().rules() | {
            "events in the database": self.events,
            "events as read": self.read,
            "events by socket": self.heard,
            "leases left over": self.leases,
            "tries of a stage": self.runs,
            "files": self.files,
            "cancelled, at work": self.at_work,
        }


async def outcome_of(crowd: Crowd, system: DrillSystem, ears: list[Ear]) -> Outcome:
    """Compare what was accepted with the database, the API, what was heard, and the services' journals."""
    outcome = Outcome(sent=crowd.sent, accepted=len(crowd.accepted), refused=crowd.refused, twice=list(crowd.twice))
    told = in_system(system.env, "print_report")
    outcome.lost += told["unfinished"]
    outcome.events, outcome.leases, outcome.runs = told["events"], told["leases"], told["runs"]
    outcome.twice += [f"{each}: in the database, and never answered" for each in set(told["ids"]) - set(crowd.accepted)]
    gate = asyncio.Semaphore(AT_ONCE)
    commands = dict(await asyncio.gather(*(_look(outcome, crowd, each, gate) for each in crowd.accepted)))
    for command_id, accepted in crowd.accepted.items():
        outcome.to_end += accepted.is_to_end
        name = f"{accepted.number} ({command_id})"
        judge_end(outcome, name, accepted, commands[command_id], also_honest=DEATHS)
        heard = ears[accepted.user].heard.get(command_id, [])
        if heard != _seqs_of(commands[command_id]):
            outcome.heard.append(f"{name}: {heard}")
    journals = {name: Journal.read(system.folder / "sandbox" / name) for name in system.instances}
    judge_works(outcome, crowd.accepted, {name: journal.stats for name, journal in journals.items()})
    outcome.twice += [problem async for problem in _done_again(crowd, journals)]
    for journal in journals.values():
        outcome.at_work += journal.at_work(commands)
    return outcome


async def _look(
    outcome: Outcome, crowd: Crowd, command_id: str, gate: asyncio.Semaphore
) -> tuple[str, dict[str, Any] | None]:
    """Read a command, its events and its files as its user does."""
    accepted = crowd.accepted[command_id]
    client, name = crowd.clients[accepted.user], f"{accepted.number} ({command_id})"
    async with gate:
        try:
            command: dict[str, Any] = await client.ask("GET", f"/commands/{command_id}")
            events = (await client.ask("GET", f"/commands/{command_id}/events"))["results"]
        except UnexpectedAnswerError as error:
            outcome.lost.append(f"{name}: {error}")
            return command_id, None
        command["seqs"] = seqs = [event["seq"] for event in events]
        if seqs != list(range(1, len(seqs) + 1)):
            outcome.read.append(f"{name}: {seqs}")
        # A run that had finished before it could be stopped is completed, and not archived.
        was_stopped = any(event["event"] == "cancelling" for event in events)
        if command["status"] == "completed":
            wanted = FILES if accepted.kind is None and not was_stopped else 1
            outcome.files += [f"{name}: {problem}" async for problem in _problems_of_files(client, command, wanted)]
            if accepted.kind is None:
                result = await client.ask("GET", f"/commands/{command_id}/result")
                if result["output"].splitlines()[-1:] != [f"chaos {accepted.number}"]:
                    outcome.wrong.append(f"{name}: {result['output']!r}")
    return command_id, command


async def _problems_of_files(client: Client, command: dict[str, Any], wanted: int) -> AsyncIterator[str]:
    if len(command["files"]) < wanted:
        yield f"{len(command['files'])} of {wanted}"
    for file in command["files"]:
        answer = await client.request("GET", file["url"].removeprefix("/api/v2"))
        if hashlib.sha256(answer.content).hexdigest() != file["sha256"]:
            yield f"{file['kind']}: other bytes"


async def _done_again(crowd: Crowd, journals: dict[str, "Journal"]) -> AsyncIterator[str]:
    """Yield the stages that a retry did again, though they had succeeded and it was to go on after them."""
    done = {key for journal in journals.values() for key in journal.works}
    for command_id, accepted in crowd.accepted.items():
        if accepted.goes_on_from is None:
            continue
        path = f"/commands/{accepted.goes_on_from}/timeline"
        tries = (await crowd.clients[accepted.user].ask("GET", path))["results"]
        for stage in sorted({each["stage"] for each in tries if each["outcome"] == "succeeded"}):
            if f"{command_id}:{stage}" in done:
                yield f"{accepted.number} ({command_id}): {stage} had succeeded for {accepted.goes_on_from}"


def _seqs_of(command: dict[str, Any] | None) -> list[int]:
    return [] if command is None else list(command["seqs"])


@dataclass
class Journal:
    """What a stand-in wrote down itself: which work it did for which key, and when each run of a runner ended."""

    works: Counter[str]
    without_key: int
    runs: dict[str, dict[str, Any]]  # by key

    @classmethod
    def read(cls, folder: Path) -> "Journal":
        [file] = folder.glob("*.sqlite3")
        connection = sqlite3.connect(file)
        try:
            keys = [key for (key,) in connection.execute("SELECT key FROM works")]
            rows = dict(connection.execute("SELECT id, body FROM records WHERE kind = 'run'"))
            answers = connection.execute("SELECT key, body FROM answers").fetchall()
        finally:
            connection.close()
        tasks = {key: json.loads(body).get("taskId") for key, body in answers}
        runs = {key: json.loads(rows[task]) for key, task in tasks.items() if task in rows}
        return cls(Counter(key for key in keys if key is not None), keys.count(None), runs)

    @property
    def stats(self) -> dict[str, Any]:
        return {"works_by_key": self.works, "works": self.works.total() + self.without_key}

    def at_work(self, commands: dict[str, dict[str, Any] | None]) -> Iterator[str]:
        """Yield the runs that went on after their command was called cancelled, and nobody said that they might."""
        for key, run in self.runs.items():
            command = commands.get(key.partition(":")[0])
            if command is None or command["status"] != "cancelled":
                continue
            if (command["error"] or {}).get("code") == UNCONFIRMED:
                continue
            if run["ended_at"] is None or seconds(run["ended_at"]) > seconds(command["finished_at"]):
                yield f"{key}: cancelled at {command['finished_at']}, and the run ended at {run['ended_at']}"


def in_system(env: dict[str, str], what: str) -> Any:
    """Let a function of tests.drill.records run in a process of the system. Return what it printed."""
    code = f"import django; django.setup(); from tests.drill import records; records.{what}()"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, check=True)  # noqa: S603 - our own
    return json.loads(done.stdout or "null")
