"""Stores a new command with its first event, and holds it if its user has as many in flight as they may have.

What commands.limits, a transaction and two `save()` do by six statements, PostgreSQL is sent at once: one round trip.
Whoever comes while another thread is at it waits, and then one of those who wait stores what all of them have (group
commit): one more round trip, and one more wait for the disk, however many they are.
"""

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from django.db import Error, InterfaceError, OperationalError, connection, transaction

from commands.claims import IN_FLIGHT
from commands.limits import hold_beyond_limit, limit_of, lock_of
from commands.models import Command, CommandEvent
from gateway.rows import insert, insertion, was_saved

_IN_FLIGHT = IN_FLIGHT.format(user="%s")
# Whoever is below the limit waits for the lock, and says so to the next statement, which counts again.
_LOCK = f"SELECT pg_advisory_xact_lock(%s), set_config('gateway.locked', %s, true) WHERE {_IN_FLIGHT} < %s"
_IS_HELD = f"(current_setting('gateway.locked', true) IS DISTINCT FROM %s OR {_IN_FLIGHT} >= %s)"
# While others wait for the turn, nobody waits long for what only holds up one: for a user who is being deleted, say.
_PATIENCE = "SELECT set_config('lock_timeout', '100ms', true)"
# What PostgreSQL says then, of a deadlock, and of a statement that was cancelled: so all of the transaction is undone.
_HELD_UP, _CANCELLED = ("55P03", "40P01"), "57014"


def insert_command(command: Command, event: CommandEvent) -> None:
    """Insert both rows, or none. Raises IntegrityError."""
    if connection.vendor == "postgresql" and not connection.in_atomic_block:
        _insert_with_others(_New.of(command, event))
        was_saved(command)
        was_saved(event)
        return
    with transaction.atomic():
        hold_beyond_limit(command)
        insert(command)
        insert(event)


@dataclass(eq=False)
class _New:
    command: Command
    lock: int
    statements: str  # two, each of which returns a row; the second says whether the command is held
    error: Error | None = field(default_factory=lambda: InterfaceError("The thread that was to store this has ended."))
    is_for_itself: bool = False  # it failed because of another one, or of what holds up this one

    @classmethod
    def of(cls, command: Command, event: CommandEvent) -> "_New":
        user, limit, lock = command.user_id, limit_of(command.user_id), lock_of(command.user_id)
        into_commands, of_command = insertion(command, held=_IS_HELD)
        into_events, of_event = insertion(event)
        both = f"WITH command AS ({into_commands} RETURNING held) {into_events} RETURNING (SELECT held FROM command)"  # noqa: S608 - no value is in it
        values = [lock, str(lock), user, limit, *of_command, str(lock), user, limit, *of_event]
        with connection.cursor() as cursor, connection.wrap_database_errors:
            return cls(command, lock, cursor.mogrify(f"{_LOCK}; {both}", values))


_waiting: list[_New] = []
_turn = threading.Lock()


def _start_anew() -> None:
    global _waiting, _turn  # the threads that wait do not come along into a child process
    _waiting, _turn = [], threading.Lock()


os.register_at_fork(after_in_child=_start_anew)


def _insert_with_others(new: _New) -> None:
    _waiting.append(new)
    with _turn:
        if new in _waiting:  # else whoever had the turn before has taken it along
            together = _waiting.copy()
            del _waiting[: len(together)]
            _insert_together(together)
    if new.is_for_itself:
        _insert_at_once([new])
    elif new.error is not None:  # one of its own: all that failed together have the same
        raise type(new.error)(*new.error.args) from new.error.__cause__


def _insert_together(together: Sequence[_New]) -> None:
    """Insert all, or none. What the database says against it is for each of them to tell."""
    error: Error | None = None
    try:
        _insert_at_once(together, patience=[_PATIENCE])
    except Error as raised:
        error = raised
    for each in together:
        each.error, each.is_for_itself = error, _may_be_tried_alone(error, are_several=len(together) > 1)


def _may_be_tried_alone(error: Error | None, *, are_several: bool) -> bool:
    """Return whether nothing can have been stored, and it may be another's fault. A broken connection tells nothing."""
    state = getattr(error and error.__cause__, "sqlstate", None)
    if state in _HELD_UP:
        return True
    is_undone = error is not None and not isinstance(error, OperationalError | InterfaceError)
    return are_several and (is_undone or state == _CANCELLED)


def _insert_at_once(several: Sequence[_New], *, patience: Sequence[str] = ()) -> None:
    ordered = sorted(several, key=lambda new: new.lock)  # so no two processes wait for each other
    with connection.cursor() as cursor:
        # What is sent as one text is one transaction.
        cursor.execute("; ".join([*patience, *(new.statements for new in ordered)]))
        for _ in patience:
            cursor.nextset()
        for new in ordered:
            cursor.nextset()
            [new.command.held] = cursor.fetchone()
            cursor.nextset()
