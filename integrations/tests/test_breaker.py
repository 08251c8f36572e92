"""Breakers: opened by time-outs and 5xx alone, for all processes at once, and tried again by one call of all."""

import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from django_redis import get_redis_connection

from integrations.clients import breaker
from integrations.clients.base import WorkState
from integrations.clients.breaker import BreakerState, protected, reset, standings_of
from integrations.clients.errors import (
    InvalidAnswerError,
    NotTakenError,
    PermanentError,
    Reason,
    ServiceError,
    TransientError,
)
from integrations.tests.breakers import (
    FAILED,
    TIME_OUT,
    URL,
    ends_with,
    is_called,
    let_time_pass,
    openings,
    state,
    time_out,
)
from integrations.tests.servers import segmentation

BROKEN = TransientError(Reason.UNAVAILABLE, no_answer=True)
REFUSED = PermanentError(Reason.REFUSED)


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
