"""What all processes of the gateway know together. It lies in Redis, which may be away: then each is on its own."""

import logging
import time
from collections.abc import Callable
from typing import Any, TypeVar

from django_redis import get_redis_connection
from redis.exceptions import RedisError, ResponseError

logger = logging.getLogger(__name__)

ASK_AGAIN_SECONDS = 5.0

Found = TypeVar("Found")
Otherwise = TypeVar("Otherwise")
_ask_again_at = 0.0


def ask(question: Callable[[Any], Found], otherwise: Otherwise) -> Found | Otherwise:
    """Put a question to Redis. Return `otherwise` without it, and do not try again at once: it may hang for seconds.

    So what is wrong is logged once in ASK_AGAIN_SECONDS at most.
    """
    global _ask_again_at  # noqa: PLW0603 - one clock for the whole process
    if time.monotonic() < _ask_again_at:
        return otherwise
    try:
        return question(get_redis_connection("default"))
    except RedisError as error:
        _ask_again_at = time.monotonic() + ASK_AGAIN_SECONDS
        if isinstance(error, ResponseError):  # out of memory, read-only, a mistake in a script
            logger.exception("Redis refuses; this process is on its own")
        else:
            logger.warning("Redis is away, this process is on its own: %s", error)
        return otherwise


def is_away() -> bool:
    """Return whether Redis did not answer this process when it was asked last, and is not asked again yet."""
    return time.monotonic() < _ask_again_at


def ask_again() -> None:
    """Forget that Redis was away. For tests: as if the process had just begun."""
    global _ask_again_at  # noqa: PLW0603 - the same
    _ask_again_at = 0.0
