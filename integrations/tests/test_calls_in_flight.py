"""Calls under way: they do not wait for one another, and with too many an instance gets no new work."""

import threading
from contextlib import ExitStack
from typing import Any

import pytest
from django_redis import get_redis_connection

from integrations import fleet
from integrations.clients import breaker, http
from integrations.clients.breaker import BreakerState, protected, reset, standings_of
from integrations.clients.errors import NotTakenError, Reason, TransientError
from integrations.tests.breakers import TIME_OUT, URL, state
from integrations.tests.servers import segmentation


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


class TestCallsInFlight:
    """Counted over all processes; with too many an instance gets no new work."""

    def test_with_too_many_there_is_no_new_work_but_what_it_has_is_asked_after(self, settings):
        settings.SERVICE_MAX_IN_FLIGHT = 2
        with protected(URL, "GET"), protected(URL, "POST", is_new_work=True):
            with pytest.raises(NotTakenError) as raised, protected(URL, "POST", is_new_work=True):
                pass
            assert raised.value.reason is Reason.BUSY
            with protected(URL, "GET"), protected("http://other", "POST", is_new_work=True):
                assert standings_of([URL])[URL].in_flight == 3
        with protected(URL, "POST", is_new_work=True):
            assert standings_of([URL])[URL].in_flight == 1

    def test_searches_have_a_limit_of_their_own_and_keep_out_no_work(self, settings):
        settings.SERVICE_MAX_IN_FLIGHT = 4
        search = {"method": "GET", "is_search": True}
        with protected(URL, **search):
            with pytest.raises(NotTakenError) as raised, protected(URL, **search):
                pass
            assert raised.value.reason is Reason.BUSY
            assert standings_of([URL])[URL].in_flight == 0
            with ExitStack() as stack:
                for _ in range(4):
                    stack.enter_context(protected(URL, "POST", is_new_work=True))
        with protected(URL, **search):
            pass

    def test_searches_that_time_out_hold_up_searches_alone(self):
        for _ in range(breaker.FAILURES):
            with pytest.raises(TransientError), protected(URL, "GET", is_search=True):
                raise TIME_OUT
        with pytest.raises(NotTakenError), protected(URL, "GET", is_search=True):
            pass
        assert (state(), breaker.failing([URL])) == (BreakerState.CLOSED, set())
        assert reset(URL)
        with protected(URL, "GET", is_search=True):
            pass

    def test_the_calls_of_a_process_that_died_are_forgotten(self, settings):
        settings.SERVICE_MAX_IN_FLIGHT = 1
        redis = get_redis_connection("default")
        with protected(URL, "POST"):
            call_id, over_at = redis.zrange(f"service-in-flight:{URL}", 0, -1, withscores=True)[0]
            assert settings.SERVICE_TIMEOUT < over_at - redis.time()[0] < settings.SERVICE_TIMEOUT + 10
            redis.zadd(f"service-in-flight:{URL}", {call_id: 1})
            assert standings_of([URL])[URL].in_flight == 0
            with protected(URL, "POST", is_new_work=True):
                assert standings_of([URL])[URL].in_flight == 1

    def test_without_redis_there_is_no_limit(self, settings, no_redis):
        settings.SERVICE_MAX_IN_FLIGHT = 1
        with protected(URL, "POST", is_new_work=True), protected(URL, "POST", is_new_work=True):
            pass

    def test_a_call_costs_two_round_trips(self, server, monkeypatch):
        asked, real = [], fleet.get_redis_connection
        monkeypatch.setattr(fleet, "get_redis_connection", lambda alias: asked.append(1) or real(alias))
        server.says({"id": "1", "status": "pending"})
        segmentation(server.url).report("1")
        assert len(asked) == 2
