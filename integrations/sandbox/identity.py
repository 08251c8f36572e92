"""Ids and times as the services write them."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime
from uuid import UUID


def new_id() -> str:
    # Not gateway.ids.new_id: the sandbox must run without the gateway.
    return str(UUID(bytes=secrets.token_bytes(16), version=4))


def utc_now() -> str:
    """Return the time as RFC 3339 in UTC, e.g. ``2025-04-28T00:28:21.922739Z``."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
