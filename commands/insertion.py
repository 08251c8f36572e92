"""Stores a new command with its first event, and holds it if its user has as many in flight as they may have.

What commands.limits, a transaction and two `save()` do by six statements, PostgreSQL is sent at once: one round trip.
"""

from functools import cache
from typing import Any

from django.db import connection, models, transaction

from commands.limits import hold_beyond_limit, limit_of, lock_of
from commands.models import Command, CommandEvent
from gateway.rows import insert

_IN_FLIGHT = "(SELECT count(*) FROM commands_command WHERE user_id = %s AND NOT held AND finished_at IS NULL)"
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
    counted = command.user_id, limit_of(command.user_id)
    values = _values(command, held=counted) + _values(event)
    with connection.cursor() as cursor:
        # What is sent as one text is one transaction.
        cursor.execute(f"{_LOCK}; {_statement()}", [lock_of(command.user_id), *counted, *values])
        cursor.nextset()
        [command.held] = cursor.fetchone()
    for row in (command, event):
        row._state.adding, row._state.db = False, connection.alias  # noqa: SLF001 - as save() leaves it


def _values(row: models.Model, **others: tuple[Any, ...]) -> list[Any]:
    """Return what goes into the places of a row's fields, in order; `others` has that of those with several."""
    values: list[Any] = []
    for field in _written(type(row)):
        if field.name in others:
            values += others[field.name]
        else:
            values.append(field.get_db_prep_save(field.pre_save(row, add=True), connection))
    return values


@cache
def _written(model: type[models.Model]) -> list[Any]:
    return list(model._meta.local_concrete_fields)  # noqa: SLF001 - public by its documentation


@cache
def _statement() -> str:
    command, event = _insert(Command, held=f"({_IS_HELD})"), _insert(CommandEvent)
    return f"WITH command AS ({command} RETURNING held) {event} RETURNING (SELECT held FROM command)"  # noqa: S608


def _insert(model: type[models.Model], **others: str) -> str:
    fields = _written(model)
    columns = ", ".join(connection.ops.quote_name(field.column) for field in fields)
    places = ", ".join(others.get(field.name, "%s") for field in fields)
    return f"INSERT INTO {model._meta.db_table} ({columns}) VALUES ({places})"  # noqa: S608, SLF001 - names of the models
