"""Stores a new command with its first event, and holds it if its user has as many in flight as they may have.

What commands.limits, a transaction and two `save()` do by six statements, PostgreSQL is sent at once: one round trip.
"""

from functools import cache
from typing import Any

from django.db import connection, transaction

from commands.claims import IN_FLIGHT
from commands.limits import hold_beyond_limit, limit_of, lock_of
from commands.models import Command, CommandEvent
from gateway.rows import insert, insertion, values_of, was_saved

_IN_FLIGHT = IN_FLIGHT.format(user="%s")
# Whoever is below the limit waits for the lock, and says so to the next statement, which counts again.
_LOCK = f"SELECT pg_advisory_xact_lock(%s), set_config('gateway.below_limit', 'yes', true) WHERE {_IN_FLIGHT} < %s"
_IS_HELD = f"current_setting('gateway.below_limit', true) IS DISTINCT FROM 'yes' OR {_IN_FLIGHT} >= %s"


def insert_command(command: Command, event: CommandEvent) -> None:
    """Insert both rows, or none. Raises IntegrityError."""
    if connection.vendor == "postgresql" and not connection.in_atomic_block:
        _insert_at_once(command, event)
        return
    with transaction.atomic():
        hold_beyond_limit(command)
        insert(command)
        insert(event)


def _insert_at_once(command: Command, event: CommandEvent) -> None:
    statement, of_command, of_event = _statement()
    counted: list[Any] = [command.user_id, limit_of(command.user_id)]
    values = [*values_of(command, of_command), *counted, *values_of(event, of_event)]
    with connection.cursor() as cursor:
        # What is sent as one text is one transaction.
        cursor.execute(statement, [lock_of(command.user_id), *counted, *values])
        cursor.nextset()
        [command.held] = cursor.fetchone()
    was_saved(command)
    was_saved(event)


@cache
def _statement() -> tuple[str, list[Any], list[Any]]:
    """Return the text, and the fields of the command and of the event whose values it takes."""
    (command, of_command), (event, of_event) = insertion(Command, held=f"({_IS_HELD})"), insertion(CommandEvent)
    both = f"WITH command AS ({command} RETURNING held) {event} RETURNING (SELECT held FROM command)"  # noqa: S608
    return f"{_LOCK}; {both}", of_command, of_event
