"""Breakers: opened by time-outs alone, for all processes at once, and tried again by one call of all."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django_redis import get_redis_connection
from redis.exceptions import ConnectionError as RedisConnectionError

from integrations.clients import breaker, http
from integrations.clients.base import WorkState
from integrations.clients.breaker import BreakerState, protected, reset, states_of
from integrations.clients.errors import Reason, ServiceError, TransientError
from integrations.tests.servers import segmentation

URL = "http://runner"


def time_out(url=URL, method="POST", times=1):
    for _ in range(times):
        with pytest.raises(TransientError), protected(url, method):
            raise TransientError(Reason.TIMEOUT)


def another_process():
    """Forget what this process knows by itself, as another one would not know it."""
    breaker._breakers.clear()


def let_time_pass(url=URL, method="POST"):
    long_ago = datetime.now(UTC) - timedelta(seconds=breaker.RESET_SECONDS + 1)
    get_redis_connection("default").hset(breaker._key(url, method), "opened_at", long_ago.isoformat())


def state(url=URL):
    return states_of([url])[url]


def is_called(url=URL, method="POST"):
    try:
        with protected(url, method):
            return True
    except TransientError:
        return False


def test_after_some_time_outs_an_instance_is_left_alone_by_all_processes():
    time_out(times=breaker.FAILURES - 1)
    another_process()
    assert state() is BreakerState.CLOSED
    time_out()
    another_process()
    assert state() is BreakerState.OPEN
    assert not is_called()
    assert is_called("http://other")


def test_each_kind_of_call_has_its_own():
    time_out(times=breaker.FAILURES, method="POST")
    assert is_called(method="GET")
    assert not is_called(method="POST")


@pytest.mark.parametrize("status", [422, 404, 500, 503])
def test_a_service_that_answers_is_asked_on(server, status):
    server.says({}, status=status)
    for _ in range(breaker.FAILURES + 3):
        with pytest.raises(ServiceError):
            segmentation(server.url).report("1")
    assert len(server.requests) == breaker.FAILURES + 3


def test_a_success_in_between_counts():
    for _ in range(3):
        time_out(times=breaker.FAILURES - 1)
        assert is_called()
    assert state() is BreakerState.CLOSED


def test_once_the_time_has_passed_one_call_of_all_finds_out():
    time_out(times=breaker.FAILURES)
    let_time_pass()
    together, entered = threading.Barrier(8, timeout=30), threading.Barrier(8, timeout=30)

    def call(_number):
        together.wait()
        try:
            with protected(URL, "POST"):
                entered.wait()  # until all others have been refused
                return "called"
        except TransientError:
            entered.wait()
            return "refused"

    with ThreadPoolExecutor(8) as pool:
        assert Counter(pool.map(call, range(8))) == {"called": 1, "refused": 7}
    assert state() is BreakerState.CLOSED


def test_if_it_times_out_again_it_is_left_alone_again():
    time_out(times=breaker.FAILURES)
    let_time_pass()
    time_out()
    another_process()
    assert state() is BreakerState.OPEN
    assert not is_called()


def test_a_probe_whose_process_died_does_not_keep_others_away_for_ever():
    time_out(times=breaker.FAILURES)
    let_time_pass()
    redis, key = get_redis_connection("default"), f"{breaker._key(URL, 'POST')} probe"
    redis.set(key, 1, nx=True, ex=breaker.PROBE_SECONDS)
    assert not is_called()
    assert 0 < redis.ttl(key) <= breaker.PROBE_SECONDS
    redis.delete(key)
    assert is_called()


@pytest.mark.parametrize("without_redis", [False, True])
def test_once_the_time_has_passed_it_may_be_chosen_again(monkeypatch, without_redis):
    """Only a call shuts it, so what is not called because it is open would stay open."""
    if without_redis:
        monkeypatch.setattr(breaker, "_shared", lambda _ask, otherwise: otherwise)
    time_out(times=breaker.FAILURES)
    assert state() is BreakerState.OPEN
    monkeypatch.setattr(breaker, "RESET_SECONDS", 0)
    assert state() is BreakerState.HALF_OPEN


def test_while_one_finds_out_it_is_not_chosen():
    time_out(times=breaker.FAILURES)
    let_time_pass()
    with protected(URL, "POST"):
        assert state() is BreakerState.OPEN
    assert state() is BreakerState.CLOSED


def test_an_administrator_resets_it():
    time_out(times=breaker.FAILURES)
    reset(URL)
    another_process()
    assert state() is BreakerState.CLOSED
    time_out(times=breaker.FAILURES - 1)
    assert is_called()


def test_without_redis_each_process_finds_out_by_itself(monkeypatch):
    tries = []

    def down(_alias):
        tries.append(1)
        raise RedisConnectionError

    monkeypatch.setattr(breaker, "get_redis_connection", down)
    time_out(times=breaker.FAILURES)
    assert not is_called()
    assert state() is BreakerState.OPEN
    assert len(tries) == 1  # it may hang: it is not tried at every step
    monkeypatch.setattr(breaker, "RESET_SECONDS", 0)
    breaker._breakers.clear()
    assert is_called()


def test_it_recovers_by_real_calls(server, monkeypatch):
    monkeypatch.setattr(breaker, "RESET_SECONDS", 0)
    time_out(server.url, "GET", times=breaker.FAILURES)
    server.says({"id": "1", "status": "pending"})
    assert segmentation(server.url).report("1").state is WorkState.WORKING
    assert state(server.url) is BreakerState.CLOSED


def test_a_breaker_that_is_open_says_time_out(server):
    time_out(server.url, "GET", times=breaker.FAILURES)
    with pytest.raises(TransientError) as raised:
        segmentation(server.url).report("1")
    assert (raised.value.reason, raised.value.detail, server.requests) == (Reason.TIMEOUT, "", [])


def test_calls_do_not_wait_for_one_another(server):
    server.says({"id": "1", "status": "pending"})
    both = threading.Barrier(2, timeout=5)
    real = http._exchange

    def meet(*args: Any, **kwargs: Any) -> Any:
        both.wait()  # breaks unless two calls are under way at once
        return real(*args, **kwargs)

    errors = []

    def ask() -> None:
        try:
            segmentation(server.url).report("1")
        except (TransientError, threading.BrokenBarrierError) as error:
            errors.append(error)
        finally:
            http.forget_connections()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(http, "_exchange", meet)
        threads = [threading.Thread(target=ask) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert errors == []
