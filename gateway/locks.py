"""Locks that all processes share, in Redis. They save work or keep a limit exact; nothing that must hold needs one."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from django_redis import get_redis_connection
from redis.exceptions import RedisError

logger = logging.getLogger(__name__)


@contextmanager
def shared_lock(name: str, *, lasts: float, wait: float) -> Iterator[bool]:
    """Run the block alone. Yield False if somebody else is in it still after `wait` seconds.

    A holder that dies, or takes longer than `lasts` seconds, holds it no more. Without Redis, everybody may enter.
    """
    lock = None
    try:
        lock = get_redis_connection("default").lock(f"lock:{name}", timeout=lasts)
        entered = lock.acquire(blocking=wait > 0, blocking_timeout=wait or None)
    except RedisError as error:
        logger.warning("nobody knows whether somebody else is at %s: %r", name, error)
        lock, entered = None, True
    try:
        yield entered
    finally:
        if lock is not None and entered:
            with suppress(RedisError):  # it may have ended by itself
                lock.release()
