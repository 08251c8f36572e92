"""What the database says when all is over. It runs in a process of its own, with the settings of the system."""

import json
import os
from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING

from accounts.services.users import user_ensure
from commands.models import Command, CommandEvent, Outcome, StageRun
from commands.states import TRANSITIONS, Status
from tests.drill.plan import USERS

if TYPE_CHECKING:
    from uuid import UUID


def make_people() -> None:
    for name in USERS:
        address, password = f"{name}@example.com", os.environ["DEMO_PASSWORD"]
        user_ensure(username=name, email=address, password=password, reset=False, superuser=False)


def print_report() -> None:
    print(json.dumps(report()))  # noqa: T201 - whoever started it reads it


def report() -> dict[str, list[str]]:
    """Return the commands that there are, and what is wrong with them, by rule."""
    unfinished = Command.objects.filter(finished_at=None)
    return {
        "ids": [str(command_id) for command_id in Command.objects.values_list("id", flat=True)],
        "unfinished": [f"{command.id}: {command.status}" for command in unfinished],
        "events": list(_events()),
        "leases": list(_leases()),
        "runs": list(_runs()),
    }


def _events() -> Iterator[str]:
    """Numbers with a gap or a repeat, a step that the table does not have, a status that is not that of the last."""
    by_command: dict[UUID, list[tuple[int, str]]] = defaultdict(list)
    rows = CommandEvent.objects.order_by("command_id", "seq").values_list("command_id", "seq", "status")
    for command_id, seq, status in rows:
        by_command[command_id].append((seq, status))
    for command in Command.objects.only("id", "status", "last_seq"):
        events = by_command[command.id]
        seqs, statuses = [seq for seq, _status in events], [Status(status) for _seq, status in events]
        if seqs != list(range(1, command.last_seq + 1)):
            yield f"{command.id}: numbers {seqs}, and the last should be {command.last_seq}"
        if statuses[-1:] != [command.status]:
            yield f"{command.id}: is {command.status}, and its last event says {statuses[-1:]}"
        for before, after in pairwise(statuses):
            if before != after and after not in TRANSITIONS[before]:
                yield f"{command.id}: {before} -> {after}"


def _leases() -> Iterator[str]:
    left = Command.objects.exclude(lease_owner="", lease_expires_at=None)
    yield from (f"{each.id} ({each.status}): {each.lease_owner} until {each.lease_expires_at}" for each in left)


def _runs() -> Iterator[str]:
    """Tries that are open though their command has ended, that are numbered wrongly, or that succeeded twice."""
    by_stage: dict[tuple[UUID, str], list[StageRun]] = defaultdict(list)
    for run in StageRun.objects.select_related("command").order_by("command_id", "stage", "attempt"):
        by_stage[run.command_id, run.stage].append(run)
        if run.finished_at is None and run.command.has_ended:
            yield f"{run.command_id}: {run.stage} {run.attempt} is open"
    for (command_id, stage), runs in by_stage.items():
        if sum(run.outcome == Outcome.SUCCEEDED for run in runs) > 1:
            yield f"{command_id}: {stage} succeeded twice"
        if [run.attempt for run in runs] != list(range(1, len(runs) + 1)):
            yield f"{command_id}: tries {[run.attempt for run in runs]} of {stage}"
