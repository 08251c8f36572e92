"""Redis is away, hangs, is full or comes back empty: no door opens by that, and none closes."""

import time
from types import SimpleNamespace

import pytest

from accounts import access, sign_in_cache
from accounts.models.sessions import SessionEnd
from accounts.services.sessions import session_end, session_start
from accounts.sign_in import sign_in_by_token
from accounts.tests.sign_in_cache.entries import entry_of, is_remembered, raw, refused
from conftest import PASSWORD
from gateway.settings.base import redis_settings
from tests.own_redis import OwnRedis

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.security, pytest.mark.security_sessions]


@pytest.fixture
def own_redis(tmp_path, settings, monkeypatch):
    own = OwnRedis(tmp_path)
    caches = redis_settings(own.url)["CACHES"]
    caches["default"]["OPTIONS"] |= {"SOCKET_CONNECT_TIMEOUT": 0.5, "SOCKET_TIMEOUT": 0.5}
    settings.CACHES = caches
    monkeypatch.setattr(sign_in_cache, "EPOCH_SECONDS", 0.4)
    monkeypatch.setattr(sign_in_cache, "GIVE_UP_SECONDS", 0.5)
    yield own
    own.thaw()
    own.stop()


@pytest.fixture
def quiet(monkeypatch):
    """No sockets are told: their Redis is another one."""
    monkeypatch.setattr(access.session_ended, "send_robust", lambda **_kwargs: None)


def end(session):
    session_end(session_id=session.id, actor=None, reason=SessionEnd.LOGOUT)


def another_process():
    """From here on as in a process that has not met the trouble."""
    sign_in_cache.believe_again()
    raw().connection_pool.disconnect()


@pytest.mark.parametrize("trouble", ["stop", "freeze"])
def test_without_redis_the_database_is_asked(own_redis, alice, bob, signed_in, quiet, trouble, caplog):
    session, tokens = signed_in
    _other, other_tokens = session_start(login="bob", password=PASSWORD)
    for each in (tokens, other_tokens):
        assert sign_in_by_token(each.access)
    getattr(own_redis, trouble)()
    assert sign_in_by_token(tokens.access).user == alice
    end(session)
    assert refused(tokens.access)
    assert sign_in_by_token(other_tokens.access).user == bob
    assert "are looked up in the database" in caplog.text


def test_a_redis_that_hung_while_a_session_ended_has_forgotten_it(own_redis, signed_in, quiet):
    """Neither the process that ended it reached Redis, nor did another notice anything."""
    session, tokens = signed_in
    sign_in_by_token(tokens.access)
    entry = entry_of(session)
    assert entry is not None
    own_redis.freeze()
    raw().connection_pool.disconnect()  # so that not even what was sent arrives later
    end(session)
    own_redis.thaw()
    another_process()
    assert entry_of(session) == entry
    assert refused(tokens.access)


def test_a_redis_that_is_away_for_a_moment_gets_the_mark_nevertheless(own_redis, signed_in, quiet, monkeypatch):
    session, tokens = signed_in
    sign_in_by_token(tokens.access)
    monkeypatch.setattr(sign_in_cache, "EPOCH_SECONDS", 600)
    monkeypatch.setattr(sign_in_cache, "GIVE_UP_SECONDS", 30)
    own_redis.stop()
    clock = SimpleNamespace(monotonic=time.monotonic, sleep=lambda _seconds: own_redis.start())
    monkeypatch.setattr(sign_in_cache, "time", clock)
    end(session)
    assert len(entry_of(session)) == 32
    assert refused(tokens.access)


def test_a_redis_that_comes_back_empty_opens_no_door_and_closes_none(own_redis, alice, bob, signed_in, quiet):
    session, tokens = signed_in
    _other, other_tokens = session_start(login="bob", password=PASSWORD)
    for each in (tokens, other_tokens):
        sign_in_by_token(each.access)
    end(session)
    own_redis.stop()
    own_redis.start()
    assert refused(tokens.access)
    assert sign_in_by_token(other_tokens.access).user == bob


def test_a_flush_at_any_moment_opens_no_door_and_closes_none(alice, bob, signed_in):
    session, tokens = signed_in
    _other, other_tokens = session_start(login="bob", password=PASSWORD)
    for moment in range(3):
        raw().flushdb()
        assert sign_in_by_token(other_tokens.access).user == bob
        if moment == 1:
            end(session)
            raw().flushdb()
        if moment:
            assert refused(tokens.access)
        else:
            assert sign_in_by_token(tokens.access).user == alice


def test_a_full_redis_takes_no_mark_and_forgets_all_the_same(own_redis, signed_in, quiet, monkeypatch):
    monkeypatch.setattr(sign_in_cache, "EPOCH_SECONDS", 600)
    session, tokens = signed_in
    sign_in_by_token(tokens.access)
    raw().config_set("maxmemory", 1)
    end(session)
    raw().config_set("maxmemory", 0)
    another_process()
    assert len(entry_of(session)) > 64
    assert refused(tokens.access)


def test_who_could_not_reach_redis_believes_nothing_for_as_long_as_an_entry_may_live(
    own_redis, alice, signed_in, round_trips, monkeypatch
):
    now = 1000.0
    monkeypatch.setattr(sign_in_cache, "time", SimpleNamespace(monotonic=lambda: now))
    own_redis.stop()
    sign_in_by_token(signed_in[1].access)
    own_redis.start()
    now += sign_in_cache.LIFETIME_SECONDS - 0.1
    round_trips.clear()
    assert sign_in_by_token(signed_in[1].access).user == alice
    assert round_trips == []
    now += 0.1
    assert sign_in_by_token(signed_in[1].access).user == alice
    assert round_trips != []
    assert is_remembered(signed_in[0])


def test_a_hanging_redis_is_waited_for_once(own_redis, alice, signed_in, monkeypatch):
    own_redis.freeze()
    sign_in_by_token(signed_in[1].access)
    monkeypatch.setattr(sign_in_cache, "_redis", None)  # whoever asks it now breaks down
    assert sign_in_by_token(signed_in[1].access).user == alice


def test_an_epoch_ends_when_nobody_asks(signed_in, monkeypatch):
    """That is how a Redis that hung has forgotten; and a client gives up later than that."""
    monkeypatch.undo()
    timeout = redis_settings("redis://x")["CACHES"]["default"]["OPTIONS"]["SOCKET_TIMEOUT"]
    assert min(timeout, sign_in_cache.GIVE_UP_SECONDS) > sign_in_cache.EPOCH_SECONDS
    sign_in_by_token(signed_in[1].access)
    assert 0 < raw().pttl(sign_in_cache._EPOCH_KEY) <= sign_in_cache.EPOCH_SECONDS * 1000
    raw().persist(sign_in_cache._EPOCH_KEY)
    sign_in_by_token(signed_in[1].access)
    assert 0 < raw().pttl(sign_in_cache._EPOCH_KEY) <= sign_in_cache.EPOCH_SECONDS * 1000
