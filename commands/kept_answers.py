"""Answers about commands that have ended, kept in Redis for a moment: commands.api.fast_lane gives them again.

They are final, so there is nothing to go stale, unless what they tell of is deleted: whoever does that says so here.
There is a fixed number of places, so that they never take more room than SLOTS times MAX_BYTES.
"""

import logging
from collections.abc import Iterable
from uuid import UUID

from django_redis import get_redis_connection
from redis.exceptions import RedisError

logger = logging.getLogger(__name__)

SLOTS, MAX_BYTES = 4096, 16 * 1024
LIFETIME_SECONDS = 60


def key_of(command_id: UUID) -> str:
    """Return where the answer is, if it is kept; another command's may be there instead."""
    return f"answer:{command_id.int % SLOTS}"


def keep(command_id: UUID, answer: bytes) -> None:
    """Keep an answer, if it is not too large, its place is free, and nobody has forgotten it since it was begun."""
    if len(answer) > MAX_BYTES:
        return
    try:
        get_redis_connection("default").set(key_of(command_id), answer, ex=LIFETIME_SECONDS, nx=True)
    except RedisError as error:
        logger.warning("the answer about a command is not kept: %r", error)


def forget(command_ids: Iterable[UUID]) -> None:
    """Forget what is kept of these, and keep nothing for as long as it could have lasted.

    Call it when commands, or files of theirs, have been deleted, after the commit: whoever read them before that, and
    comes late, then finds the place taken.
    """
    try:
        pipeline = get_redis_connection("default").pipeline(transaction=False)
        for command_id in command_ids:
            pipeline.set(key_of(command_id), b"", ex=LIFETIME_SECONDS)
        pipeline.execute()
    except RedisError as error:
        logger.warning("answers about commands that are gone are forgotten within a minute: %r", error)
