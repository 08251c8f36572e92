"""The one place where ids are made."""

from uuid import UUID

from uuid_utils import compat


def new_id() -> UUID:
    """Return a time-ordered UUIDv7 (RFC 9562): rows lie in the order in which they were made."""
    return compat.uuid7()
