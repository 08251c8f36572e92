"""The one place where ids are made."""

from datetime import UTC, datetime
from uuid import UUID

from uuid_utils import compat


def new_id() -> UUID:
    """Return a time-ordered UUIDv7 (RFC 9562): rows lie in the order in which they were made."""
    return compat.uuid7()


def first_id_at(moment: datetime) -> UUID:
    """Return what is less than every id made from then on, and not less than any made before."""
    milliseconds = max(int(moment.timestamp() * 1000), 0)
    return UUID(int=min(milliseconds, 2**48 - 1) << 80)


def moment_of(made: UUID) -> datetime:
    """Return when an id was made, to the millisecond. Of one that was not made here, what it says may be any time."""
    return datetime.fromtimestamp((made.int >> 80) / 1000, UTC)
