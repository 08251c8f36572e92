"""Breakers: opened by time-outs and 5xx alone, for all processes at once, and tried again by one call of all."""

import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import pytest
from django_redis import get_redis_connection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from integrations import fleet
from integrations.clients import breaker, http
from integrations.clients.base import WorkState
from integrations.clients.breaker import BreakerState, protected, reset, standings_of, states_of
from integrations.clients.errors import (
    InvalidAnswerError,
    NotTakenError,
    PermanentError,
    Reason,
    ServiceError,
    TransientError,
)
from integrations.tests.servers import segmentation

URL = "http://runner"
TIME_OUT = TransientError(Reason.TIMEOUT, no_answer=True)
BROKEN = TransientError(Reason.UNAVAILABLE, no_answer=True)
REFUSED = PermanentError(Reason.REFUSED)
FAILED = TransientError(Reason.ERROR)


def ends_with(error: BaseException, url=URL, method="POST", times=1):
    for _ in range(times):
        with pytest.raises(type(error)), protected(url, method):
            raise error


def time_out(url=URL, method="POST", times=1):
    ends_with(TIME_OUT, url, method, times)


def let_time_pass(url=URL, method="POST"):
    get_redis_connection("default").hset(f"service-breaker:{method} {url}", "opened_at", 1)


def openings(url=URL, method="POST"):
    return int(get_redis_connection("default").hget(f"service-breaker:{method} {url}", "openings") or 0)


def state(url=URL):
    return states_of([url])[url]


def is_called(url=URL, method="POST"):
    try:
        with protected(url, method):
            return True
    except TransientError:
        return False


@pytest.fixture
def no_redis(monkeypatch):
    """Redis is away. Returns how often it was asked."""
    tries: list[int] = []

    def down(_alias):
        tries.append(1)
        raise RedisConnectionError

    monkeypatch.setattr(fleet, "get_redis_connection", down)
    return tries


def test_after_some_time_outs_an_instance_is_left_alone():
    time_out(times=breaker.FAILURES - 1)
    assert state() is BreakerState.CLOSED
    time_out()
    assert state() is BreakerState.OPEN
    assert not is_called()
    assert is_called("http://other")


def test_each_kind_of_call_has_its_own():
    time_out(times=breaker.FAILURES, method="POST")
    assert is_called(method="GET")
    assert not is_called(method="POST")


@pytest.mark.parametrize(
    ("status", "headers", "is_asked_on"),
    [
        *((status, {}, True) for status in (422, 404, 408, 429, 503)),
        (503, {"Retry_After": "1"}, True),
        (500, {}, False),
        (502, {"Retry_After": "1"}, False),
    ],
)
def test_a_service_that_answers_is_asked_on_but_for_one_that_fails_at_all(server, status, headers, is_asked_on):
    server.says({}, status=status, **headers)
    for _ in range(breaker.FAILURES + 3):
        with pytest.raises(ServiceError) as raised:
            segmentation(server.url).report("1")
    assert len(server.requests) == breaker.FAILURES + (3 if is_asked_on else 0)
    assert is_asked_on or raised.value.reason is Reason.LEFT_ALONE
    assert isinstance(raised.value, NotTakenError) is (status == 429 or bool(headers) or not is_asked_on)


def test_a_success_in_between_counts():
    for _ in range(3):
        time_out(times=breaker.FAILURES - 1)
        assert is_called()
    assert state() is BreakerState.CLOSED


@pytest.mark.parametrize("error", [REFUSED, BROKEN, InvalidAnswerError("?"), NotTakenError(Reason.BUSY), ValueError()])
def test_what_is_neither_does_not_hide_that_calls_time_out(error):
    for _ in range(breaker.FAILURES):
        assert is_called("http://other")
        ends_with(error)
        time_out()
    assert state() is BreakerState.OPEN
    ends_with(error, "http://other", times=breaker.FAILURES + 1)
    assert state("http://other") is BreakerState.CLOSED


@pytest.mark.parametrize(
    ("error", "after"),
    [
        (REFUSED, BreakerState.CLOSED),  # it answers
        (TIME_OUT, BreakerState.OPEN),
        (FAILED, BreakerState.OPEN),
        (BROKEN, BreakerState.OPEN),
        (ValueError(), BreakerState.HALF_OPEN),  # nothing was found out: the next one may
    ],
)
@pytest.mark.parametrize("with_redis", [True, False])
def test_what_a_probe_finds_out(request, monkeypatch, error, after, with_redis):
    if not with_redis:
        request.getfixturevalue("no_redis")
    time_out(times=breaker.FAILURES)
    with monkeypatch.context() as patch:
        patch.setattr(breaker, "RESET_SECONDS", 0)
        assert state() is BreakerState.HALF_OPEN

        def probe():
            with protected(URL, "POST"):
                assert state() is BreakerState.OPEN  # for all others
                assert not is_called()
                raise error

        with pytest.raises(type(error)):
            probe()
        if after is BreakerState.HALF_OPEN:
            assert state() is after
    if after is not BreakerState.HALF_OPEN:
        assert state() is after


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


PROCESS = """
import sys
from integrations.clients.breaker import protected
from integrations.clients.errors import Reason, TransientError
for _ in sys.stdin:
    try:
        with protected(sys.argv[1], "POST"):
            print("called", flush=True)
            sys.stdin.readline()
            raise TransientError(Reason.TIMEOUT, no_answer=True)
    except TransientError as error:
        print("timed out" if error.no_answer else "refused", flush=True)
"""


def test_several_processes_open_it_once_and_probe_it_once():
    """Real processes. Each line that one reads lets it begin a call, or end it with a time-out."""
    command = [sys.executable, "-c", PROCESS, URL]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # noqa: S603 - our own
        for _ in range(breaker.FAILURES + 1)
    ]

    def go_on(some):
        for process in some:
            process.stdin.write("\n")
            process.stdin.flush()
        return [process.stdout.readline().strip() for process in some]

    try:
        assert set(go_on(processes)) == {"called"}
        assert standings_of([URL])[URL].in_flight == len(processes)
        assert set(go_on(processes)) == {"timed out"}
        assert (state(), openings(), standings_of([URL])[URL].in_flight) == (BreakerState.OPEN, 1, 0)
        let_time_pass()
        said = go_on(processes)
        assert Counter(said) == {"called": 1, "refused": len(processes) - 1}
        assert go_on([processes[said.index("called")]]) == ["timed out"]
        assert (state(), openings()) == (BreakerState.OPEN, 2)
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def test_who_began_before_the_others_found_out_has_no_say_any_more():
    """A call that hangs ends long after the breaker opened, or was closed again."""
    with protected(URL, "POST"):  # ends well, but is of a time before
        time_out(times=breaker.FAILURES)
    assert state() is BreakerState.OPEN

    def late(url, meanwhile):
        with protected(url, "POST"):
            meanwhile()
            raise TIME_OUT

    def others_open_it():
        time_out("http://other", times=breaker.FAILURES)

    def others_open_it_and_it_is_reset():
        others_open_it()
        reset("http://other")
        time_out("http://other", times=breaker.FAILURES - 1)

    with pytest.raises(TransientError):
        late("http://other", others_open_it_and_it_is_reset)
    assert state("http://other") is BreakerState.CLOSED
    reset("http://other")
    before = openings("http://other")
    with pytest.raises(TransientError):
        late("http://other", others_open_it)
    assert (state("http://other"), openings("http://other")) == (BreakerState.OPEN, before + 1)


def test_a_probe_whose_process_died_does_not_keep_others_away_for_ever(settings):
    time_out(times=breaker.FAILURES)
    let_time_pass()
    redis, key = get_redis_connection("default"), f"service-breaker:POST {URL}"
    dead, next_one = protected(URL, "POST"), protected(URL, "POST")
    dead.__enter__()
    until = float(redis.hget(key, "probe_until"))
    assert settings.SERVICE_TIMEOUT < until - redis.time()[0] < settings.SERVICE_TIMEOUT + 10
    redis.hset(key, "probe_until", 1)
    assert state() is BreakerState.HALF_OPEN
    next_one.__enter__()
    dead.__exit__(None, None, None)  # not dead after all, but too late
    assert state() is BreakerState.OPEN
    next_one.__exit__(None, None, None)
    assert state() is BreakerState.CLOSED


def test_an_administrator_resets_it():
    time_out(times=breaker.FAILURES)
    assert reset(URL)
    assert state() is BreakerState.CLOSED
    time_out(times=breaker.FAILURES - 1)
    assert is_called()


def test_without_redis_each_process_finds_out_by_itself(monkeypatch, no_redis):
    time_out(times=breaker.FAILURES)
    assert not is_called()
    assert state() is BreakerState.OPEN
    assert not reset(URL)
    assert len(no_redis) == 1  # it may hang: it is not tried at every step
    with monkeypatch.context() as patch:
        patch.setattr(breaker, "RESET_SECONDS", 0)
        assert is_called()
    assert state() is BreakerState.CLOSED


def test_what_a_process_found_out_alone_is_forgotten_when_redis_is_back(monkeypatch):
    def alone(patch):
        patch.setattr(fleet, "ask", lambda _question, otherwise: otherwise)

    with monkeypatch.context() as patch:
        alone(patch)
        ends_with(FAILED, times=breaker.FAILURES)
        with pytest.raises(NotTakenError) as raised, protected(URL, "POST"):
            pass
        assert raised.value.reason is Reason.LEFT_ALONE
        patch.setattr(breaker, "RESET_SECONDS", 0)
        endless = protected(URL, "POST")
        endless.__enter__()  # a probe
        assert not is_called()
    assert is_called()  # the others know nothing against it
    with monkeypatch.context() as patch:
        alone(patch)
        assert is_called()
        time_out(times=breaker.FAILURES)
        patch.setattr(breaker, "RESET_SECONDS", 0)
        assert is_called()  # that one is forgotten


def test_without_redis_too_a_probe_that_never_ended_does_not_keep_others_away_for_ever(monkeypatch, no_redis):
    time_out(times=breaker.FAILURES)
    monkeypatch.setattr(breaker, "RESET_SECONDS", 0)
    endless = protected(URL, "POST")
    endless.__enter__()
    assert not is_called()
    breaker._probing[f"service-breaker:POST {URL}"] = 0
    assert is_called()
    assert state() is BreakerState.CLOSED


@pytest.mark.parametrize(
    ("error", "level"), [(RedisConnectionError("gone"), "WARNING"), (ResponseError("OOM command not allowed"), "ERROR")]
)
def test_that_redis_is_away_is_told_once_and_how_bad_it_is(monkeypatch, caplog, error, level):
    def refuses(_redis):
        raise error

    assert [fleet.ask(refuses, "alone") for _ in range(3)] == ["alone"] * 3
    [record] = caplog.records
    assert (record.levelname, str(error) in caplog.text) == (level, True)


def test_it_recovers_by_real_calls(server, monkeypatch):
    monkeypatch.setattr(breaker, "RESET_SECONDS", 0)
    time_out(server.url, "GET", times=breaker.FAILURES)
    server.says({"id": "1", "status": "pending"})
    assert segmentation(server.url).report("1").state is WorkState.WORKING
    assert state(server.url) is BreakerState.CLOSED


def test_a_breaker_that_is_open_says_so_and_not_that_the_instance_failed(server):
    time_out(server.url, "GET", times=breaker.FAILURES)
    with pytest.raises(NotTakenError) as raised:
        segmentation(server.url).report("1")
    assert (raised.value.reason, raised.value.no_answer, server.requests) == (Reason.LEFT_ALONE, False, [])


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
