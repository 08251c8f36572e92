"""Circuit breakers, one per instance and kind of call, which all processes share.

A breaker opens after some time-outs in a row, so that an instance that hangs does not hold every worker for a whole
timeout. After a while one call, of the whole fleet, is let through to see whether the instance is well again. What
fails at once holds nobody, and a service that answers is well enough, whatever it says: neither counts.

What is known lies in Redis. Without it, each process has to find out by itself.
"""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

import pybreaker
from django_redis import get_redis_connection
from redis.exceptions import RedisError

from integrations.clients.errors import NotTakenError, Reason, ServiceError

FAILURES = 3
RESET_SECONDS = 5
PROBE_SECONDS = 30  # a probe whose process died keeps others from probing for so long
KEPT_SECONDS = 24 * 3600
WITHOUT_REDIS_SECONDS = 5.0
METHODS = ("GET", "POST")


class BreakerState(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class FleetStorage(pybreaker.CircuitMemoryStorage):
    """Keeps what a breaker knows in Redis, and in this process for when there is none."""

    def __init__(self, key: str) -> None:
        super().__init__(pybreaker.STATE_CLOSED)
        self._key = key

    @property
    def state(self) -> str:
        return str(_shared(lambda redis: redis.hget(self._key, "state") or b"closed", super().state))

    @state.setter
    def state(self, state: str) -> None:
        pybreaker.CircuitMemoryStorage.state.fset(self, state)  # type: ignore[attr-defined]  # the property of the base
        self._put("state", state)

    @property
    def counter(self) -> int:
        return int(_shared(lambda redis: redis.hget(self._key, "failures") or b"0", super().counter))

    @property
    def success_counter(self) -> int:
        return int(_shared(lambda redis: redis.hget(self._key, "successes") or b"0", super().success_counter))

    @property
    def opened_at(self) -> datetime | None:
        found = _shared(lambda redis: redis.hget(self._key, "opened_at") or b"", None)
        return datetime.fromisoformat(found) if found else super().opened_at

    @opened_at.setter
    def opened_at(self, moment: datetime) -> None:
        pybreaker.CircuitMemoryStorage.opened_at.fset(self, moment)  # type: ignore[attr-defined]  # the same
        self._put("opened_at", moment.isoformat())

    def increment_counter(self) -> None:
        super().increment_counter()
        self._add("failures")

    def reset_counter(self) -> None:
        super().reset_counter()
        _shared(lambda redis: redis.hdel(self._key, "failures"), None)

    def increment_success_counter(self) -> None:
        super().increment_success_counter()
        self._add("successes")

    def reset_success_counter(self) -> None:
        super().reset_success_counter()
        _shared(lambda redis: redis.hdel(self._key, "successes"), None)

    def _add(self, field: str) -> None:
        def add(redis: Any) -> None:
            redis.pipeline().hincrby(self._key, field, 1).expire(self._key, KEPT_SECONDS).execute()

        _shared(add, None)

    def _put(self, field: str, value: str) -> None:
        def put(redis: Any) -> None:
            redis.pipeline().hset(self._key, field, value).expire(self._key, KEPT_SECONDS).execute()

        _shared(put, None)


_breakers: dict[str, pybreaker.CircuitBreaker] = {}
_ask_redis_again_at = 0.0


@contextmanager
def protected(base_url: str, method: str) -> Iterator[None]:
    """Run one call of an instance. Raises NotTakenError (timeout) while its breaker is open."""
    key = _key(base_url, method)
    breaker = _breaker(key)
    state = breaker.current_state
    probes = state != pybreaker.STATE_CLOSED and _may_probe(breaker, key)
    if state != pybreaker.STATE_CLOSED and not probes:
        raise NotTakenError(Reason.TIMEOUT)
    try:
        # Not breaker.call(): it holds its lock during the call, and so lets callers through one by one.
        with breaker.calling():
            yield
    except pybreaker.CircuitBreakerError:
        raise NotTakenError(Reason.TIMEOUT) from None  # nothing else opens it
    finally:
        if probes:
            _shared(lambda redis: redis.delete(f"{key} probe"), None)


def states_of(base_urls: Iterable[str]) -> dict[str, BreakerState]:
    """Return how the breakers of each instance are, for all kinds of calls together. One round trip.

    One that has been open for long enough, and that nobody probes, is half-open: only a call shuts it again.
    """
    urls = list(base_urls)

    def read(redis: Any) -> list[Any]:
        pipeline = redis.pipeline(transaction=False)
        for url in urls:
            for method in METHODS:
                pipeline.hmget(_key(url, method), "state", "opened_at")
                pipeline.exists(f"{_key(url, method)} probe")
        found: list[Any] = pipeline.execute()
        return [
            _seen((state or b"closed").decode(), opened_at and datetime.fromisoformat(opened_at.decode()), probed)
            for (state, opened_at), probed in zip(found[::2], found[1::2], strict=True)
        ]

    words = _shared(read, None)
    if words is None:
        storages = [_breaker(_key(url, method))._state_storage for url in urls for method in METHODS]  # noqa: SLF001
        words = [_seen(storage.state, storage.opened_at, probed=False) for storage in storages]
    each = [words[at : at + len(METHODS)] for at in range(0, len(words), len(METHODS))]
    return {url: _worst(states) for url, states in zip(urls, each, strict=True)}


def reset(base_url: str) -> None:
    """Close the breakers of an instance, as if nothing had been wrong."""
    for method in METHODS:
        _breaker(_key(base_url, method)).close()
        _breaker(_key(base_url, method))._state_storage.reset_counter()  # noqa: SLF001 - pybreaker has no other way


def forget_failures() -> None:
    """Close every breaker of this process, as a new process begins."""
    global _ask_redis_again_at  # noqa: PLW0603 - one clock for the whole process
    _breakers.clear()
    _ask_redis_again_at = 0.0


def _breaker(key: str) -> pybreaker.CircuitBreaker:
    if key not in _breakers:
        _breakers[key] = pybreaker.CircuitBreaker(
            fail_max=FAILURES,
            reset_timeout=RESET_SECONDS,
            exclude=[lambda error: not (isinstance(error, ServiceError) and error.reason is Reason.TIMEOUT)],
            throw_new_error_on_trip=False,
            state_storage=FleetStorage(key),
        )
    return _breakers[key]


def _may_probe(breaker: pybreaker.CircuitBreaker, key: str) -> bool:
    opened_at = breaker._state_storage.opened_at  # noqa: SLF001 - the same
    if opened_at is not None and datetime.now(UTC) < opened_at + timedelta(seconds=breaker.reset_timeout):
        return False
    permit = _shared(lambda redis: redis.set(f"{key} probe", 1, nx=True, ex=PROBE_SECONDS), "without Redis")
    return permit is not None


def _shared(ask: Any, otherwise: Any) -> Any:
    """Ask Redis; answer otherwise without it, and do not try again at once: it may hang."""
    global _ask_redis_again_at  # noqa: PLW0603 - the same
    if time.monotonic() < _ask_redis_again_at:
        return otherwise
    try:
        found = ask(get_redis_connection("default"))
    except RedisError:
        _ask_redis_again_at = time.monotonic() + WITHOUT_REDIS_SECONDS
        return otherwise
    return found.decode() if isinstance(found, bytes) else found


def _seen(state: str, opened_at: datetime | None, probed: bool) -> str:  # noqa: FBT001 - as Redis answers
    """Return what a caller would find."""
    if state == pybreaker.STATE_CLOSED:
        return state
    waits = opened_at is not None and datetime.now(UTC) < opened_at + timedelta(seconds=RESET_SECONDS)
    return pybreaker.STATE_OPEN if waits or probed else pybreaker.STATE_HALF_OPEN


def _worst(states: list[str]) -> BreakerState:
    if pybreaker.STATE_OPEN in states:
        return BreakerState.OPEN
    return BreakerState.HALF_OPEN if pybreaker.STATE_HALF_OPEN in states else BreakerState.CLOSED


def _key(base_url: str, method: str) -> str:
    return f"breaker:{method} {base_url}"
