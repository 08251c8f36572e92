"""The one place where a command's status changes, and where its events are numbered."""

from copy import copy
from typing import Any

from django.db import transaction
from django.db.models import F
from django.utils import timezone

from commands.events import event_broadcast_on_commit
from commands.models import Command, CommandEvent
from commands.states import STAGE_OF, TERMINAL, TRANSITIONS, Status


class StaleCommandError(Exception):
    """The command is no longer as the caller saw it: somebody changed it, or the caller's lease is gone."""


class IllegalTransitionError(Exception):
    """A mistake in the code: the table does not know this step."""


def command_transition(
    command: Command, to: Status, *, lease_owner: str | None = None, data: dict[str, Any] | None = None, **changes: Any
) -> CommandEvent:
    """Move the command from the status that the caller saw to `to`, and record the event, in one transaction.

    `changes` are further fields to write with it; `lease_owner` says that only the holder of the lease may do this.
    Updates `command` too. Raises StaleCommandError, and then nothing has changed.
    """
    seen = Status(command.status)
    if to not in TRANSITIONS[seen]:
        raise IllegalTransitionError(f"{seen} -> {to}")
    now = timezone.now()
    changes |= {"status": to, "stage": STAGE_OF.get(to)}
    if to is Status.CANCELLING:
        changes["stage"] = command.stage
    if seen is Status.QUEUED:
        changes["started_at"] = now
    if to in TERMINAL:
        changes |= {
            "finished_at": now,
            "due_at": None,
            "dispatch_at": None,
            "lease_owner": "",
            "lease_expires_at": None,
        }
    return _record(command, str(to), lease_owner, data or {}, changes)


def command_event(
    command: Command, event: str, *, lease_owner: str, data: dict[str, Any] | None = None, **changes: Any
) -> CommandEvent:
    """Record something that happened within the present status. Raises StaleCommandError."""
    return _record(command, event, lease_owner, data or {}, changes)


def first_event(command: Command, *, data: dict[str, Any] | None = None) -> CommandEvent:
    """Save a new command together with its first event."""
    with transaction.atomic():
        command.last_seq = 1
        command.save(force_insert=True)
        return _event(command, str(command.status), data or {})


def _record(
    command: Command, event: str, lease_owner: str | None, data: dict[str, Any], changes: dict[str, Any]
) -> CommandEvent:
    conditions = {"id": command.id, "status": command.status}
    if lease_owner is not None:
        conditions["lease_owner"] = lease_owner
    with transaction.atomic():
        # Compare and swap. The row stays locked until the commit, so numbers are given in the order of the commits.
        if not Command.objects.filter(**conditions).update(last_seq=F("last_seq") + 1, **changes):
            raise StaleCommandError
        changes["last_seq"] = Command.objects.values_list("last_seq", flat=True).get(id=command.id)
        changed = copy(command)
        _set(changed, changes)
        recorded = _event(changed, event, data)
    _set(command, changes)  # only now: the caller's view is never ahead of the database
    return recorded


def _set(command: Command, changes: dict[str, Any]) -> None:
    for name, value in changes.items():
        setattr(command, name, value)


def _event(command: Command, event: str, data: dict[str, Any]) -> CommandEvent:
    recorded = CommandEvent.objects.create(
        command=command,
        seq=command.last_seq,
        event=event,
        status=command.status,
        stage=command.stage,
        progress=command.progress,
        data=data,
    )
    event_broadcast_on_commit(recorded)
    return recorded
