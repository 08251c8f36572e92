"""Whoever looked before a change brings nothing back after it, whatever the order; and garbage is no entry."""

import json
import random
from contextlib import contextmanager

import pytest

from accounts import sign_in, sign_in_cache
from accounts.models import Role
from accounts.models.sessions import SessionEnd
from accounts.services.sessions import session_end
from accounts.sign_in import sign_in_by_credential, sign_in_by_token
from accounts.tests.sign_in_cache.entries import entry_of, is_remembered, raw, refused
from gateway.ids import new_id

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.security, pytest.mark.security_sessions]


# --- readers that are slow -------------------------------------------------------------------------------------------


@contextmanager
def looking_while(monkeypatch, happens):
    """Whoever looks into the database now finds it as it was, but is told only when something has happened since."""
    look_up = sign_in._look_up

    def slow(*args):
        found = look_up(*args)
        happens()
        return found

    with monkeypatch.context() as patch:
        patch.setattr(sign_in, "_look_up", slow)
        yield


def _entry_of_another_epoch(session):
    sign_in_by_credential(session.id, session.expires_at)
    sign_in_cache.forget_everybody()


BEFORE = {
    "nothing was known": lambda _session: None,
    "there was a mark": lambda session: sign_in_cache.forget([session.id]),
    "there was an entry of another epoch": _entry_of_another_epoch,
    "there was garbage": lambda session: raw().set(sign_in_cache._key(session.id), b"x" * 100),
}


@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.parametrize("also", ["nothing", "another reader", "a flush", "a flush and another reader"])
def test_who_looked_before_the_commit_cannot_bring_a_session_back(signed_in, monkeypatch, before, also):
    session, tokens = signed_in
    BEFORE[before](session)

    def end():
        session_end(session_id=session.id, actor=None, reason=SessionEnd.LOGOUT)
        if "flush" in also:
            raw().flushdb()
        if "reader" in also:
            sign_in_cache.read(session.id)

    with looking_while(monkeypatch, end):
        sign_in_by_token(tokens.access)  # it was good when it was looked at
    assert not is_remembered(session)
    assert refused(tokens.access)


@pytest.mark.parametrize("flush", [False, True])
def test_who_looked_before_a_role_changed_cannot_bring_back_what_it_gave(alice, signed_in, monkeypatch, flush):
    def change():
        Role.objects.get(name=Role.VIEWER).permissions.clear()
        if flush:
            raw().flushdb()

    with looking_while(monkeypatch, change):
        assert sign_in_by_token(signed_in[1].access).allows("commands.read_own_command")
    assert not sign_in_by_token(signed_in[1].access).allows("commands.read_own_command")


def test_who_is_slower_than_a_mark_lives_writes_nothing(signed_in):
    """Else it could come when the mark is gone. The time counts from the look, by the clock of Redis."""
    session, _tokens = signed_in
    _known, glance = sign_in_cache.read(session.id)
    seconds, _microseconds = raw().time()
    lifetime = sign_in_cache.LIFETIME_SECONDS * 1000
    assert 0 <= seconds * 1000 + 1000 + lifetime - glance.ends_at < 10_000
    late = sign_in_cache.Glance(glance.epoch, glance.entry_id, glance.ends_at - lifetime - 1000)
    sign_in_cache.write(session.id, late, {"x": 1})
    assert entry_of(session) is None
    sign_in_cache.write(session.id, glance, {"x": 1})
    assert 0 < raw().pttl(sign_in_cache._key(session.id)) <= lifetime
    sign_in_cache.forget([session.id])
    assert lifetime - 10_000 < raw().pttl(sign_in_cache._key(session.id)) <= lifetime


class Chaos:
    """Readers, changes and losses in any order, on a "database" that is one number."""

    OFTEN = ("begin", "look", "finish") * 4
    SELDOM = ("change", "change_of_many", "expire", "spoil", "lapse", "flush")

    def __init__(self, seed):
        self.dice, self.credential_id = random.Random(seed), new_id()  # noqa: S311 - a test to be repeated
        self.key = sign_in_cache._key(self.credential_id)
        self.version, self.readers = 0, []

    def read(self):
        known, glance = sign_in_cache.read(self.credential_id)
        assert known in (None, {"version": self.version})
        return glance

    def begin(self):
        self.readers.append([self.read(), None])

    def look(self):
        for reader in self.dice.sample(self.readers, min(1, len(self.readers))):
            reader[1] = reader[1] or {"version": self.version}

    def finish(self):
        for reader in self.dice.sample(self.readers, min(1, len(self.readers))):
            if reader[1]:
                self.readers.remove(reader)
                sign_in_cache.write(self.credential_id, *reader)

    def change(self):
        self.version += 1
        sign_in_cache.forget([self.credential_id])

    def change_of_many(self):
        self.version += 1
        sign_in_cache.forget_everybody()

    def expire(self):
        """The time of a reader who looked before is over too."""
        raw().delete(self.key)
        self.readers.clear()

    def spoil(self):
        raw().set(self.key, self.dice.randbytes(200))

    def lapse(self):
        raw().delete(sign_in_cache._EPOCH_KEY)

    def flush(self):
        raw().flushdb()


@pytest.mark.parametrize("seed", range(40))
def test_whatever_the_order_nothing_old_is_believed(seed, db):
    chaos = Chaos(seed)
    for step in chaos.dice.choices([*Chaos.OFTEN, *Chaos.SELDOM], k=40):
        getattr(chaos, step)()
        chaos.read()


# --- garbage ---------------------------------------------------------------------------------------------------------


def _as_entry(body):
    return lambda epoch: new_id().hex.encode() + epoch + body


GARBAGE = [
    lambda _epoch: b"",
    lambda _epoch: b"?",
    lambda _epoch: b"\xff" * 300,
    lambda epoch: epoch,
    _as_entry(b""),
    _as_entry(b"{"),
    _as_entry(b"\xff\xfe"),
    _as_entry(b"[" * 100_000),
    *(_as_entry(body) for body in (b"null", b"7", b'"x"', b"[]", b"{}", b'{"user": {}}', b'{"user": []}')),
    _as_entry(json.dumps({"user": {"id": "x"}, "ends_at": 7, "permissions": 7}).encode()),
]


@pytest.mark.parametrize("garbage", GARBAGE)
def test_garbage_is_no_entry(alice, signed_in, garbage):
    session, tokens = signed_in
    assert sign_in_by_token(tokens.access).user == alice
    raw().set(sign_in_cache._key(session.id), garbage(raw().get(sign_in_cache._EPOCH_KEY)))
    for _ in range(2):
        assert sign_in_by_token(tokens.access).user == alice
    session_end(session_id=session.id, actor=None, reason=SessionEnd.LOGOUT)
    assert refused(tokens.access)


@pytest.mark.parametrize("field", ["user", "key_sha256", "ends_at", "permissions", "denied_routes", "obligations"])
def test_an_entry_of_a_release_with_other_fields_is_none(alice, signed_in, field):
    session, tokens = signed_in
    sign_in_by_token(tokens.access)
    entry = entry_of(session)
    known = json.loads(entry[64:])
    del known[field]
    raw().set(sign_in_cache._key(session.id), entry[:64] + json.dumps(known).encode())
    assert sign_in_by_token(tokens.access).user == alice


def test_another_kind_of_value_lets_nobody_in_who_may_not(alice, signed_in):
    session, tokens = signed_in
    raw().rpush(sign_in_cache._key(session.id), "x")
    assert sign_in_by_token(tokens.access).user == alice
    session_end(session_id=session.id, actor=None, reason=SessionEnd.LOGOUT)
    assert refused(tokens.access)
