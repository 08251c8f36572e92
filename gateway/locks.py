"""Locks that all processes share."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256

from django.db import connection
from django_redis import get_redis_connection
from redis.exceptions import RedisError

logger = logging.getLogger(__name__)


def transaction_lock(name: str) -> None:
    """Wait until no other transaction has this lock, and hold it until this one ends.

    For what no row stands for. On SQLite there is nothing to do: only one transaction writes at a time.
    """
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [lock_number(name)])


def lock_number(name: str) -> int:
    """Return what PostgreSQL knows a lock by."""
    return int.from_bytes(sha256(name.encode()).digest()[:8], signed=True)


@contextmanager
def alone(name: str, *, lasts: float) -> Iterator[bool]:
    """Yield whether nobody else is in the block of this name, in Redis: it saves work, and nothing may rest on it.

    A holder that dies, or takes longer than `lasts` seconds, holds it no more. Without Redis, everybody may enter.
    """
    lock = None
    try:
        lock = get_redis_connection("default").lock(f"lock:{name}", timeout=lasts)
        entered = lock.acquire(blocking=False)
    except RedisError as error:
        logger.warning("nobody knows whether somebody else is at %s: %r", name, error)
        lock, entered = None, True
    try:
        yield entered
    finally:
        if lock is not None and entered:
            with suppress(RedisError):  # it may have ended by itself
                lock.release()
