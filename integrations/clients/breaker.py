"""Whether an instance may be called: circuit breakers, one per kind of call, and a limit of calls at once.

A breaker opens after some failures in a row: time-outs, so that an instance that hangs does not hold every worker for a
whole timeout, and 5xx, so that one that fails at everything gets no new work. After a while one call, of the whole
fleet, is let through to see whether the instance is well again: the probe.

Both lie in Redis for all processes (`fleet_storage`). Without it, each process has breakers of its own and no limit.
"""

import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

import pybreaker
from django.conf import settings

from integrations import fleet
from integrations.clients.errors import NotTakenError, Reason, ServiceError
from integrations.clients.fleet_storage import ADMIT, FORGET, RELEASE, STANDINGS, FleetStorage, Keys

FAILURES = 3
RESET_SECONDS = 5
FAILING_SECONDS = 60  # after the last failure that opened a breaker: then nobody knows any more
MARGIN_SECONDS = 5.0
METHODS = ("GET", "POST")
SEARCHES_SHARE = 4  # searches have a limit of their own: one of so many parts of SERVICE_MAX_IN_FLIGHT


class BreakerState(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True)
class Standing:
    """How an instance stands: its breakers, for all kinds of calls together, and the calls it has at this moment."""

    breaker: BreakerState
    in_flight: int


@dataclass(frozen=True)
class _Admitted:
    """A call that may be made."""

    breaker: pybreaker.CircuitBreaker
    is_probe: bool
    leave: Callable[[], object]


def call_seconds() -> float:
    """Return after how long a call is certainly over, and one that did not end is that of a process that died."""
    return float(settings.SERVICE_TIMEOUT + MARGIN_SECONDS)


@contextmanager
def protected(base_url: str, method: str, *, is_new_work: bool = False, is_search: bool = False) -> Iterator[None]:
    """Run one call of an instance.

    Raises NotTakenError: while its breaker is open (left_alone), and for new work while it has as many calls as it may
    have (busy); the same for a search, of which it has a limit of its own, so that searches keep out no work. What it
    has already is asked after in any case.
    """
    keys = Keys(base_url, method, is_search)
    admitted = _admit(keys, _limit(is_new_work=is_new_work, is_search=is_search))
    error: BaseException | None = None
    try:
        yield
    except BaseException as raised:
        error = raised
        raise
    finally:
        _judge(admitted, error)
        admitted.leave()


def standings_of(base_urls: Iterable[str], *, open_seconds: float | None = None) -> dict[str, Standing]:
    """Return how each instance stands. One round trip.

    A breaker that has been open for long enough, and that nobody probes, is half-open: only a call shuts it again.
    """
    urls = list(base_urls)
    if not urls:
        return {}
    open_seconds = RESET_SECONDS if open_seconds is None else open_seconds
    names = [name for url in urls for name in (*_breakers_of(url), Keys.in_flight_of(url))]
    found = fleet.ask(lambda redis: STANDINGS(redis, names, open_seconds), None)
    if found is None:
        return {
            url: Standing(_worst([_state_here(name, open_seconds) for name in _breakers_of(url)]), 0) for url in urls
        }
    size = len(METHODS) + 1
    each = {url: found[at * size : (at + 1) * size] for at, url in enumerate(urls)}
    return {
        url: Standing(_worst([BreakerState(word.decode()) for word in words]), int(in_flight))
        for url, (*words, in_flight) in each.items()
    }


def states_of(base_urls: Iterable[str]) -> dict[str, BreakerState]:
    """Return how the breakers of each instance are. One round trip."""
    return {url: standing.breaker for url, standing in standings_of(base_urls).items()}


def failing(base_urls: Iterable[str]) -> set[str]:
    """Return those whose calls fail: a breaker opened within FAILING_SECONDS, or is probed. One round trip.

    One that is half-open was not well again just since it may be tried; only after a while, nobody knows any more.
    """
    standings = standings_of(base_urls, open_seconds=FAILING_SECONDS)
    return {url for url, standing in standings.items() if standing.breaker is BreakerState.OPEN}


def claim_probe(base_url: str) -> bool:
    """Return whether this caller, of the whole fleet, is the one to call an instance that is half-open."""
    milliseconds = max(1, int(1000 * RESET_SECONDS))
    return fleet.ask(lambda redis: bool(redis.set(Keys.turn_of(base_url), 1, nx=True, px=milliseconds)), otherwise=True)


def reset(base_url: str) -> bool:
    """Close the breakers of an instance, as if nothing had been wrong. Return False if Redis is away: nobody heard."""
    names = [*_breakers_of(base_url), Keys(base_url, "GET", is_search=True).breaker]
    if fleet.ask(lambda redis: FORGET(redis, names), None) is None:
        return False
    for name in names:
        _breakers.pop(name, None)
    return True


def forget_failures() -> None:
    """Close every breaker of this process. For tests: as if the process had just begun."""
    _breakers.clear()
    _probing.clear()
    fleet.ask_again()


# --- One call -------------------------------------------------------------------------------------------------------


def _limit(*, is_new_work: bool, is_search: bool) -> int | str:
    """Return how many calls of this kind there may be at once, '' if any number."""
    if is_search:
        return max(1, int(settings.SERVICE_MAX_IN_FLIGHT) // SEARCHES_SHARE)
    return int(settings.SERVICE_MAX_IN_FLIGHT) if is_new_work else ""


def _admit(keys: Keys, limit: int | str) -> _Admitted:
    call_id = secrets.token_hex(8)
    values = (call_id, call_seconds(), RESET_SECONDS, limit)
    found = fleet.ask(lambda redis: ADMIT(redis, (keys.breaker, keys.in_flight), *values), None)
    if found is None:
        return _admit_here(keys.breaker)
    word = found[0].decode()
    if word == "busy":
        raise NotTakenError(Reason.BUSY)
    if word == pybreaker.STATE_OPEN:
        raise NotTakenError(Reason.LEFT_ALONE)
    for known in (_breakers, _probing):  # what this process found out while Redis was away is out of date
        known.pop(keys.breaker, None)
    storage = FleetStorage(keys, call_id, word, failures=found[1], openings=found[2])
    is_probe = word == pybreaker.STATE_HALF_OPEN

    def leave() -> object:
        if is_probe:
            return fleet.ask(lambda redis: RELEASE(redis, (keys.breaker, keys.in_flight), call_id), None)
        return fleet.ask(lambda redis: redis.zrem(keys.in_flight, call_id), None)

    return _Admitted(_pybreaker(storage), is_probe, leave)


def _judge(admitted: _Admitted, error: BaseException | None) -> None:
    """Let pybreaker count the call, once it is over.

    A time-out and a 5xx but 503 are failures, a good answer is a success. Anything else, above all a 4xx, is neither:
    it neither opens a breaker nor hides that other calls fail. Only of a probe any other answer is a success, and none
    is a failure.
    """
    if error is None:
        failed = False
    elif not isinstance(error, ServiceError):
        return  # it says something of the gateway, and nothing of the instance
    else:
        failed = error.reason is Reason.ERROR or (
            error.no_answer and (admitted.is_probe or error.reason is Reason.TIMEOUT)
        )
        if not failed and not admitted.is_probe:
            return

    def outcome() -> None:
        if failed:
            raise _FailedError

    with suppress(_FailedError, pybreaker.CircuitBreakerError):
        # Of what is over already: call() holds its lock, and so would let the calls themselves through one by one.
        admitted.breaker.call(outcome)


class _FailedError(Exception):
    """Tells pybreaker that a call failed."""


def _pybreaker(storage: pybreaker.CircuitBreakerStorage) -> pybreaker.CircuitBreaker:
    return pybreaker.CircuitBreaker(
        fail_max=FAILURES, reset_timeout=RESET_SECONDS, throw_new_error_on_trip=False, state_storage=storage
    )


# --- Without Redis: this process alone ------------------------------------------------------------------------------

_breakers: dict[str, pybreaker.CircuitBreaker] = {}
_probing: dict[str, float] = {}  # until when a probe is certainly over, by time.monotonic()


def _admit_here(name: str) -> _Admitted:
    state = _state_here(name)
    breaker = _breakers.setdefault(name, _pybreaker(pybreaker.CircuitMemoryStorage(pybreaker.STATE_CLOSED)))
    if state is BreakerState.CLOSED:
        return _Admitted(breaker, is_probe=False, leave=lambda: None)
    if name in _probing and not _is_probed(name):
        _probing.pop(name, None)  # it was broken off, and could not say so
    until = time.monotonic() + call_seconds()
    if state is BreakerState.OPEN or _probing.setdefault(name, until) is not until:
        raise NotTakenError(Reason.LEFT_ALONE)
    breaker.half_open()

    def leave() -> None:
        if _probing.get(name) is until:
            _probing.pop(name, None)

    return _Admitted(breaker, is_probe=True, leave=leave)


def _state_here(name: str, open_seconds: float | None = None) -> BreakerState:
    breaker = _breakers.get(name)
    if breaker is None or breaker.current_state == pybreaker.STATE_CLOSED:
        return BreakerState.CLOSED
    opened_at = breaker._state_storage.opened_at  # noqa: SLF001 - pybreaker has no other way
    open_for = timedelta(seconds=RESET_SECONDS if open_seconds is None else open_seconds)
    waits = opened_at is not None and datetime.now(UTC) < opened_at + open_for
    return BreakerState.OPEN if waits or _is_probed(name) else BreakerState.HALF_OPEN


def _is_probed(name: str) -> bool:
    return time.monotonic() < _probing.get(name, 0)


def _breakers_of(base_url: str) -> list[str]:
    return [Keys(base_url, method).breaker for method in METHODS]


def _worst(states: list[BreakerState]) -> BreakerState:
    return next((each for each in (BreakerState.OPEN, BreakerState.HALF_OPEN) if each in states), BreakerState.CLOSED)
