# ruff: noqa: S608 - all values are parameters
"""The statements by which commands are taken in their order, and let go. None waits for a row that another has."""

from collections.abc import Collection
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models import DateTimeField, UUIDField

from commands.models import Command
from commands.states import Stage
from gateway.locks import lock_number
from gateway.rows import columns, fetch, unsynced

# Of the conditions, the first ones are as the indexes have them.
_AT_STAGE = "finished_at IS NULL AND NOT held AND COALESCE(stage, 'segmentation') = %(stage)s"
_FREE = "(lease_expires_at IS NULL OR lease_expires_at <= %(now)s)"
_IN_WORK = f"{_AT_STAGE} AND turn_at IS NULL AND due_at <= %(now)s AND {_FREE}"
_WAITING = f"{_AT_STAGE} AND turn_at IS NOT NULL AND {_FREE}"
_ONE = f"""id = %(id)s AND finished_at IS NULL AND NOT held
    AND (turn_at IS NOT NULL OR due_at <= %(now)s) AND {_FREE}"""

# The lease of a worker that died has run out, but is there still: so deaths are counted.
_CLAIM = """
UPDATE commands_command SET
    lease_owner = %(owner)s,
    lease_expires_at = %(expires)s,
    deaths = CASE WHEN lease_owner <> '' THEN deaths + 1 ELSE deaths END
WHERE id = {candidate}
RETURNING {returned}"""

# How many commands a user has in flight; in commands.insertion too.
IN_FLIGHT = "(SELECT count(*) FROM commands_command WHERE user_id = {user} AND NOT held AND finished_at IS NULL)"
_IS_BELOW = f"{IN_FLIGHT.format(user='%(user)s')} < %(limit)s"

_LET_GO = """
UPDATE commands_command SET held = %(no)s, due_at = %(now)s
WHERE id = (SELECT id FROM commands_command WHERE user_id = %(user)s AND held ORDER BY turn_at LIMIT 1{lock})
AND {is_below}
RETURNING stage"""


def take_next(
    *, stage: Stage, owner: str, now: datetime, expires: datetime, passed_over: Collection[str] = ()
) -> tuple[Command, bool] | None:
    """Give the lease of the next command of a stage to `owner`, in one statement.

    Return the command, and whether there is another one to do. `passed_over` are targets whose services are busy ("" is
    any service): what waits for them is left where it is.
    """
    waiting = _WAITING
    if passed_over:
        waiting += "".join(f" AND target <> %(busy{number})s" for number in range(len(passed_over)))
    legs = [(_IN_WORK, "due_at")] + ([] if "" in passed_over else [(waiting, "turn_at")])
    first = ", ".join(
        f"(SELECT id FROM commands_command WHERE {leg} ORDER BY {by} LIMIT 1{_lock()})" for leg, by in legs
    )
    more = " OR ".join(
        f"EXISTS (SELECT 1 FROM commands_command other WHERE other.id <> commands_command.id AND {leg})"
        for leg, _by in legs
    )
    values = {"stage": str(stage), **{f"busy{number}": target for number, target in enumerate(passed_over)}}
    return _claimed(f"COALESCE({first}, NULL)", more, owner=owner, now=now, expires=expires, **values)


def take_one(*, command_id: UUID, owner: str, now: datetime, expires: datetime) -> Command | None:
    """Give the lease of this command to `owner`, if there is something to do."""
    one = f"(SELECT id FROM commands_command WHERE {_ONE}{_lock()})"
    claimed = _claimed(one, "1 = 0", owner=owner, now=now, expires=expires, id=_stored(command_id))
    return claimed[0] if claimed else None


def _claimed(
    candidate: str, more: str, *, owner: str, now: datetime, expires: datetime, **values: Any
) -> tuple[Command, bool] | None:
    """Claim the candidate. Return it, and whether there is more to do.

    A claim that the database server forgets in a crash is a lease that was lost: whoever had it can write nothing more.
    And before anything is handed over, a try is committed, which takes the claim to the disk with it.
    """
    returned = ", ".join(filter(None, (columns(Command), more, unsynced())))
    values |= {"owner": owner, "now": _stored(now), "expires": _stored(expires)}
    for command, others in fetch(Command, _CLAIM.format(candidate=candidate, returned=returned), values):
        return command, bool(others[0])
    return None


def _lock() -> str:
    """Return what lets nobody wait for a row that another worker is taking. On SQLite one writes at a time."""
    return " FOR UPDATE SKIP LOCKED" if connection.vendor == "postgresql" else ""


def _stored(value: datetime | UUID) -> Any:
    field = UUIDField() if isinstance(value, UUID) else DateTimeField()
    return field.get_db_prep_value(value, connection)


def stages_with_work(*, now: datetime) -> list[Stage]:
    """Return the stages at which there is something to do that nobody does."""
    found = []
    with connection.cursor() as cursor:
        for stage in Stage:
            legs = (f"EXISTS (SELECT 1 FROM commands_command WHERE {leg})" for leg in (_IN_WORK, _WAITING))
            cursor.execute(f"SELECT {' OR '.join(legs)}", {"stage": str(stage), "now": _stored(now)})
            found += [stage] if cursor.fetchone()[0] else []
    return found


def let_go(*, user_id: UUID, limit: int, now: datetime) -> Stage | None:
    """Let the next command of a user go that is held, if they have fewer than `limit` in flight. Return its stage."""
    values = {"no": False, "now": _stored(now), "user": _stored(user_id), "limit": limit}
    with connection.cursor() as cursor:
        cursor.execute(_LET_GO.format(lock=_lock(), is_below=_IS_BELOW), values)
        rows = cursor.fetchall()
    return Stage(rows[0][0] or Stage.SEGMENTATION) if rows else None


def lock_if_below(*, user_id: UUID, limit: int, name: str) -> bool:
    """Take the lock of this name (gateway.locks) if the user is below the limit; else return False, waiting for nobody.

    Whether they still are when the lock was waited for is to be asked again.
    """
    if connection.vendor != "postgresql":  # only one transaction writes at a time
        return True
    values: dict[str, Any] = {"lock": lock_number(name), "user": user_id, "limit": limit}
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT pg_advisory_xact_lock(%(lock)s) WHERE {_IS_BELOW}", values)
        return cursor.fetchone() is not None
