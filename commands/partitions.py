"""The table of events on PostgreSQL: a partition for each month, so that dropping one takes no time.

A command's id tells when it was made (UUIDv7), so the events of a month's commands are a range of ids. What belongs to
no month's partition goes to the default one: a missing partition stops nobody. On SQLite it is one plain table.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import OperationalError, ProgrammingError, connection, transaction
from django.utils import timezone

from commands.models import CommandEvent
from gateway.ids import first_id_at, moment_of
from gateway.locks import transaction_lock

logger = logging.getLogger(__name__)

TABLE = CommandEvent._meta.db_table  # noqa: SLF001 - documented API of models
DEFAULT = f"{TABLE}_default"
MONTHS_AHEAD = 3
EARLIEST = datetime(2020, 1, 1, tzinfo=UTC)  # an id that tells of another time was made in another way
# What changes partitions waits for whoever is at the table, and meanwhile others wait for it: no longer than this.
LOCK_TIMEOUT = "200ms"


@dataclass(frozen=True, order=True)
class Month:
    """A month in UTC, by its first moment."""

    start: datetime

    @classmethod
    def of(cls, moment: datetime) -> "Month":
        return cls(moment.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0))

    @property
    def following(self) -> "Month":
        return Month.of(self.start + timedelta(days=32))

    @property
    def end(self) -> datetime:
        return self.following.start

    @property
    def ids(self) -> tuple[UUID, UUID]:
        """The first id of the month's commands, and the first of the next month's."""
        return first_id_at(self.start), first_id_at(self.end)

    @property
    def table(self) -> str:
        return f"{TABLE}_{self.start:%Y_%m}"


def is_partitioned() -> bool:
    """Tell whether there are partitions: on PostgreSQL, from the migration on."""
    if connection.vendor != "postgresql":
        return False
    return bool(_rows("SELECT 1 FROM pg_partitioned_table WHERE partrelid = to_regclass(%s)", TABLE))


def months() -> list[Month]:
    """Return the months that have a partition, in order."""
    query = "SELECT relname FROM pg_inherits JOIN pg_class ON oid = inhrelid WHERE inhparent = to_regclass(%s)"
    ends = [name.removeprefix(f"{TABLE}_") for (name,) in _rows(query, TABLE) if name != DEFAULT]
    return sorted(Month(datetime.strptime(end, "%Y_%m").replace(tzinfo=UTC)) for end in ends)


def months_make(*, now: datetime | None = None) -> list[Month]:
    """Make the partitions of this month and the next ones, and of what waits in the default one. Return them.

    Two at once make each once. One that cannot be made without holding up others is left to the next time.
    """
    if not is_partitioned():
        return []
    made = [month for month in _missing(now or timezone.now()) if _make(month)]
    if _rows(f"SELECT 1 FROM {DEFAULT} LIMIT 1"):  # noqa: S608
        logger.warning("there are events whose month has no partition: they are deleted in batches only")
    return made


def month_drop(month: Month) -> bool:
    """Drop the events of a month's commands at once. Return whether that could be done without holding up others."""
    try:
        with transaction.atomic():
            _wait_briefly()
            _execute(f"DROP TABLE IF EXISTS {month.table}")
    except OperationalError as error:
        logger.warning("the events of %s could not be dropped now: %s", month.table, error)
        return False
    return True


def _missing(now: datetime) -> Iterator[Month]:
    first, last = first_id_at(EARLIEST), first_id_at(now)
    waiting = _rows(
        f"SELECT command_id FROM {DEFAULT} WHERE command_id BETWEEN %s AND %s ORDER BY command_id LIMIT 1",  # noqa: S608
        first,
        last,
    )
    month, existing = Month.of(moment_of(waiting[0][0]) if waiting else now), set(months())
    end = now
    for _ in range(MONTHS_AHEAD):
        end = Month.of(end).end
    while month.start <= end:
        if month not in existing:
            yield month
        month = month.following


def _make(month: Month) -> bool:
    """Make a month's partition with what the default one has of it."""
    first, end = month.ids
    try:
        with transaction.atomic():
            transaction_lock("event partitions")
            if month in months():
                return False
            _wait_briefly()
            _execute(f"LOCK TABLE {DEFAULT} IN ACCESS EXCLUSIVE MODE")
            _execute(f"CREATE TABLE {month.table} (LIKE {TABLE} INCLUDING ALL)")
            _execute(
                f"WITH moved AS (DELETE FROM {DEFAULT} WHERE command_id >= '{first}' AND command_id < '{end}'"  # noqa: S608
                f" RETURNING *) INSERT INTO {month.table} SELECT * FROM moved"
            )
            _execute(f"ALTER TABLE {TABLE} ATTACH PARTITION {month.table} FOR VALUES FROM ('{first}') TO ('{end}')")
    except (OperationalError, ProgrammingError) as error:  # or a table of this name is there, detached by hand
        logger.warning("the partition %s could not be made now: %s", month.table, error)
        return False
    return True


def _wait_briefly() -> None:
    _execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'")


def _execute(statement: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement)


def _rows(query: str, *params: Any) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(query, params)
        return list(cursor.fetchall())
