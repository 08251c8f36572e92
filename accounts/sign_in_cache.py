"""Remembers in Redis who a session or an API key speaks for, so that a request costs no database query.

It must never let in somebody whose access has ended, whatever becomes of Redis:

- Who changes somebody's access puts a hold in place of the entry before the commit, and a mark after it. While there is
  a hold, everybody asks the database and nobody writes: so it does no harm if the process dies in between. (Of two who
  change the same access at once, the first to commit takes the hold of the other away too.)
- An entry is written only in place of what its writer saw before it looked into the database, so one who looked before
  the commit overwrites no mark.
- An entry dies LIFETIME_SECONDS after the look into the database began, however late it is written, and a mark lives
  as long. So nobody can come after the mark.
- Entries belong to an epoch, and those of another epoch count for nothing. A new one begins when what many may do
  changes (a role, a rule), when Redis was emptied, and when nobody has asked for EPOCH_SECONDS. A Redis that hangs long
  enough to lose a mark has therefore lost its epoch too.
- A process that could not reach Redis believes nothing in it for as long as an entry may live.

What is left, for LIFETIME_SECONDS at most: a process that alone cannot reach Redis while others can leaves an entry
behind that is not true any more. Also, what changes access without model signals (`QuerySet.update`, SQL) has to say so
itself (accounts.access), or it is noticed as late as that.
"""

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django_redis import get_redis_connection
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError

from gateway.ids import new_id
from gateway.redis_script import Script

logger = logging.getLogger(__name__)

LIFETIME_SECONDS = 30
EPOCH_SECONDS = 1.5  # less than the time after which a client gives Redis up
GIVE_UP_SECONDS = 2.0
RETRY_SECONDS = 0.1
_EPOCH_KEY, _HOLD_KEY = "sign-in:epoch", "sign-in:hold"

_believe_again_at = 0.0
_hold_again_at = 0.0


# An entry is its own id, the id of its epoch, and JSON. A mark is only an id, a hold an exclamation mark.
_read = Script("""
local epoch = redis.call('GETEX', KEYS[1], 'PX', ARGV[1])
local entry = redis.call('GET', KEYS[2]) or ''
if entry == '!' or redis.call('EXISTS', KEYS[3]) == 1 then
    return {}
end
if epoch and string.sub(entry, #epoch + 1, 2 * #epoch) == epoch then
    return string.sub(entry, 2 * #epoch + 1)
end
if not epoch then
    epoch = ARGV[2]
    redis.call('SET', KEYS[1], epoch, 'PX', ARGV[1])
end
local time = redis.call('TIME')
return {epoch, string.sub(entry, 1, #epoch), time[1] * 1000 + math.floor(time[2] / 1000)}
""")
# Of somebody known, the entry and what is at another key; nothing of anybody else.
_read_beside = Script("""
local epoch = redis.call('GETEX', KEYS[1], 'PX', ARGV[1])
local entry = redis.call('GET', KEYS[2]) or ''
if not epoch or string.sub(entry, #epoch + 1, 2 * #epoch) ~= epoch or redis.call('EXISTS', KEYS[3]) == 1 then
    return {}
end
return {string.sub(entry, 2 * #epoch + 1), redis.call('GET', KEYS[4]) or ''}
""")
_write = Script("""
local time = redis.call('TIME')
local left = ARGV[3] - (time[1] * 1000 + math.floor(time[2] / 1000))
if left > 0 and string.sub(redis.call('GET', KEYS[1]) or '', 1, #ARGV[2]) == ARGV[1] then
    redis.call('SET', KEYS[1], ARGV[2] .. ARGV[4], 'PX', left)
end
""")


@dataclass(frozen=True)
class Glance:
    """What was there before a look into the database: only in place of this may the outcome be written."""

    epoch: bytes
    entry_id: bytes
    ends_at: int  # when what is seen now must be forgotten: milliseconds, by the clock of Redis


def read(credential_id: UUID) -> tuple[Any, Glance | None]:
    """Return what is remembered; if nothing is, None and a glance that allows to write. One round trip.

    It is JSON that was in Redis: whoever reads it takes what makes no sense for nothing.
    """
    if time.monotonic() < _believe_again_at:
        return None, None
    try:
        answer = _run(_read, [_EPOCH_KEY, _key(credential_id), _HOLD_KEY], int(EPOCH_SECONDS * 1000), new_id().hex)
    except RedisError as error:
        _doubt(error)
        return None, None
    if answer == []:
        return None, None
    if isinstance(answer, list):
        epoch, entry_id, now = answer
        return None, Glance(epoch, entry_id, now + LIFETIME_SECONDS * 1000)
    try:
        return json.loads(answer), None
    except (ValueError, RecursionError):
        return None, None


def read_beside(credential_id: UUID, key: str) -> tuple[bytes, bytes] | None:
    """Return what `read` would, as JSON, and what is at another key, empty if nothing is. One round trip for both.

    None if nothing is remembered of the credential.
    """
    if time.monotonic() < _believe_again_at:
        return None
    keys = [_EPOCH_KEY, _key(credential_id), _HOLD_KEY, key]
    try:
        answer = _run(_read_beside, keys, int(EPOCH_SECONDS * 1000))
    except RedisError as error:
        _doubt(error)
        return None
    return (answer[0], answer[1]) if answer else None


def write(credential_id: UUID, glance: Glance | None, known: dict[str, Any]) -> None:
    """Remember what a look into the database found, if nothing has changed since the glance."""
    if glance is None:
        return
    content = glance.epoch + json.dumps(known).encode()
    try:
        _run(_write, [_key(credential_id)], glance.entry_id, new_id().hex, glance.ends_at, content)
    except RedisError as error:
        _doubt(error)


def hold(credential_ids: Iterable[UUID]) -> None:
    """Let requests of these ask the database until `forget`, or for LIFETIME_SECONDS. Call it before the commit."""
    _hold([_key(credential_id) for credential_id in credential_ids])


def hold_everybody() -> None:
    """Let requests of everybody do so, until `forget_everybody` or `let_go_everybody`."""
    _hold([_HOLD_KEY])


def let_go_everybody() -> None:
    """Take back what `hold_everybody` said: nothing has changed. Without it, the hold ends by itself."""
    with suppress(RedisError):
        _redis().delete(_HOLD_KEY)


def _hold(keys: list[str]) -> None:
    """Do it once, and do not doubt Redis if it fails: who calls it after the commit insists.

    The caller may have rows locked. So whoever has just waited for a Redis that hangs does not wait again.
    """
    global _hold_again_at  # noqa: PLW0603 - one clock for the whole process
    if not keys or time.monotonic() < max(_hold_again_at, _believe_again_at):
        return
    try:
        pipeline = _redis().pipeline(transaction=False)
        for key in keys:
            pipeline.set(key, "!", ex=LIFETIME_SECONDS)
        pipeline.execute()
    except RedisError as error:
        _hold_again_at = time.monotonic() + GIVE_UP_SECONDS
        logger.warning("sign-ins are not held while access changes: %r", error)


def forget(credential_ids: Iterable[UUID]) -> None:
    """Let the next requests of these look into the database. Call it after the commit."""
    keys = [_key(credential_id) for credential_id in credential_ids]

    def mark() -> None:
        pipeline = _redis().pipeline(transaction=False)
        for key in keys:
            pipeline.set(key, new_id().hex, ex=LIFETIME_SECONDS)
        pipeline.execute()

    if keys:
        _insist(mark)


def forget_everybody() -> None:
    """Let the next request of everybody look into the database. Call it after the commit."""
    _insist(_end_epoch)


def believe_again() -> None:
    """Trust Redis again at once, as a new process does."""
    global _believe_again_at, _hold_again_at  # noqa: PLW0603 - the same
    _believe_again_at = _hold_again_at = 0.0


def _insist(change: Callable[[], None]) -> None:
    """Try for so long that, if it was in vain, the epoch has ended by itself."""
    patience = 0.0 if time.monotonic() < _believe_again_at else GIVE_UP_SECONDS
    give_up_at = time.monotonic() + patience
    while True:
        try:
            return _one_or_all(change)
        except RedisError as error:
            if time.monotonic() >= give_up_at:
                return _doubt(error)
            time.sleep(RETRY_SECONDS)


def _one_or_all(change: Callable[[], None]) -> None:
    try:
        change()
    except ResponseError:  # a Redis that is full takes no mark, but lets go of what it has
        _end_epoch()


def _end_epoch() -> None:
    _redis().delete(_EPOCH_KEY, _HOLD_KEY)


def _doubt(error: RedisError) -> None:
    global _believe_again_at  # noqa: PLW0603 - the same
    _believe_again_at = time.monotonic() + LIFETIME_SECONDS
    logger.warning("sign-ins are looked up in the database for a while: %r", error)


def _redis() -> Any:
    return get_redis_connection("default")


def _run(script: Script, keys: list[str], *args: object) -> Any:
    try:
        return script(_own_client(), keys, *args)
    except RedisConnectionError:  # it broke while nobody used it; none of the scripts does harm when it runs twice
        _forget_own_client()
        return script(_own_client(), keys, *args)


class _Own(threading.local):
    client: Redis | None = None


_own = _Own()


def _forget_own_client() -> None:
    _own.client = None


os.register_at_fork(after_in_child=_forget_own_client)  # the connection is the parent's


def _own_client() -> Redis:
    """Return a client with a connection of this thread alone: to take one from the pool costs as much as a question."""
    pool = _redis().connection_pool
    if _own.client is None or _own.client.connection_pool is not pool:
        _own.client = Redis(connection_pool=pool, single_connection_client=True)
    return _own.client


def _key(credential_id: UUID) -> str:
    return f"sign-in:{credential_id.hex}"
