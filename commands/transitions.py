"""The one place where a command's status changes, and where its events are numbered."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import copy
from typing import Any

from django.db import connection, transaction
from django.utils import timezone

from commands.dispatch import wake_on_commit
from commands.events import event_broadcast_on_commit
from commands.insertion import insert_command
from commands.limits import let_next_go
from commands.models import Command, CommandEvent
from commands.queue import turn_of
from commands.states import STAGE_OF, TERMINAL, TRANSITIONS, Status
from gateway.rows import insert, update


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
        changes |= {"stage": command.stage, "turn_at": None}
    elif to not in TERMINAL and seen is not Status.QUEUED:
        # The next stage is for the workers of its own queue. It takes its place there; whoever has it lets go with it.
        changes |= {"turn_at": turn_of(command), "due_at": now, "lease_owner": "", "lease_expires_at": None}
    if seen is Status.QUEUED:
        changes["started_at"] = now
    if to in TERMINAL:
        changes |= {
            "finished_at": now,
            "due_at": None,
            "turn_at": None,
            "held": False,
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
    command.last_seq = 1
    event = _event_of(command, str(command.status), data or {})
    insert_command(command, event)
    event_broadcast_on_commit(event)
    return event


def first_events(commands: Sequence[Command]) -> None:
    """Save new commands together with their first events: two statements, however many."""
    for command in commands:
        command.last_seq = 1
    with transaction.atomic():
        Command.objects.bulk_create(commands)
        events = [_event_of(command, str(command.status), {}) for command in commands]
        for event in CommandEvent.objects.bulk_create(events):
            event_broadcast_on_commit(event)


def _record(
    command: Command, event: str, lease_owner: str | None, data: dict[str, Any], changes: dict[str, Any]
) -> CommandEvent:
    conditions = {"id": command.id, "status": command.status}
    if lease_owner is not None:
        conditions["lease_owner"] = lease_owner
        if "finished_at" not in changes:
            changes["deaths"] = 0  # whoever works on it gets on
    with _one_transaction():
        # Compare and swap. The row stays locked until the commit, so numbers are given in the order of the commits.
        seq = update(Command, conditions, changes, counting="last_seq")
        if not seq:
            raise StaleCommandError
        changes["last_seq"] = seq
        changed = copy(command)
        _set(changed, changes)
        recorded = _event(changed, event, data)
        if changed.has_ended and not command.held:
            _let_next_go(command)
    _set(command, changes)  # only now: the caller's view is never ahead of the database
    return recorded


def _let_next_go(command: Command) -> None:
    stage = let_next_go(command.user_id)
    if stage is not None:
        wake_on_commit(stage)


def _one_transaction() -> AbstractContextManager[object]:
    """Without a savepoint in another one: a stale command changed nothing, and what else fails is to end that too."""
    return nullcontext() if connection.in_atomic_block else transaction.atomic()


def _set(command: Command, changes: dict[str, Any]) -> None:
    for name, value in changes.items():
        setattr(command, name, value)


def _event(command: Command, event: str, data: dict[str, Any]) -> CommandEvent:
    recorded = _event_of(command, event, data)
    insert(recorded)
    event_broadcast_on_commit(recorded)
    return recorded


def _event_of(command: Command, event: str, data: dict[str, Any]) -> CommandEvent:
    return CommandEvent(
        command=command,
        seq=command.last_seq,
        event=event,
        status=command.status,
        stage=command.stage,
        progress=command.progress,
        data=data,
    )
