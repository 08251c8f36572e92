"""Calls that go well or wrong, and what the breaker makes of them."""

import pytest
from django_redis import get_redis_connection

from integrations.clients.breaker import protected, states_of
from integrations.clients.errors import Reason, TransientError

URL = "http://runner"
TIME_OUT = TransientError(Reason.TIMEOUT, no_answer=True)
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
