"""Breakers without Redis: each process finds out by itself, and forgets that when Redis is back."""

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from integrations import fleet
from integrations.clients import breaker
from integrations.clients.breaker import BreakerState, protected, reset
from integrations.clients.errors import NotTakenError, Reason
from integrations.tests.breakers import FAILED, URL, ends_with, is_called, state, time_out


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
