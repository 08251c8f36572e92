"""What is remembered of a sign-in costs nothing to use, and lets nobody in whose access has ended."""

import json
import random
import time
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import redis
from django.contrib.auth.models import Permission
from django.db import DatabaseError, transaction
from django_otp.plugins.otp_totp.models import TOTPDevice
from django_redis import get_redis_connection

from accounts import access, sign_in, sign_in_cache
from accounts.models import DeviceSession, Role, RouteRule, User
from accounts.models.sessions import SessionEnd
from accounts.services.passwords import password_set
from accounts.services.sessions import session_end, session_start
from accounts.services.users import user_delete
from accounts.sign_in import sign_in_by_credential, sign_in_by_token
from accounts.tests.people import person
from conftest import PASSWORD
from gateway.api.errors import ApiError, ErrorCode
from gateway.ids import new_id
from gateway.settings.base import redis_settings
from gateway.tests.expect import problem_of
from tests.own_redis import OwnRedis

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.security, pytest.mark.security_sessions]

ME, COMMANDS = "/api/v2/me", "/api/v2/commands"


@pytest.fixture
def signed_in(alice):
    return session_start(login="alice", password=PASSWORD)


@pytest.fixture
def round_trips(monkeypatch):
    """Return the commands that go to Redis, a list for each time that something is sent."""
    sent = []
    send = redis.Connection.send_packed_command

    def spy(self, command, *args, **kwargs):
        sent.append(b"".join(command) if isinstance(command, list) else command)
        return send(self, command, *args, **kwargs)

    monkeypatch.setattr(redis.Connection, "send_packed_command", spy)
    return sent


def raw():
    return get_redis_connection("default")


def entry_of(session):
    return raw().get(sign_in_cache._key(session.id))


def is_remembered(session):
    return sign_in_cache.read(session.id)[0] is not None


def refused(token, code=ErrorCode.SESSION_ENDED):
    with pytest.raises(ApiError) as caught:
        sign_in_by_token(token)
    assert caught.value.error_code == code
    return True


# --- what it costs ---------------------------------------------------------------------------------------------------


def test_a_request_of_somebody_known_asks_no_database_and_redis_once(
    api, alice, round_trips, django_assert_num_queries
):
    client = api(alice)
    assert client.get(ME).status_code == 200
    round_trips.clear()
    with django_assert_num_queries(0):
        assert client.get(ME).status_code == 200
    assert len(round_trips) == 1
    assert b"EVALSHA" in round_trips[0]


def test_that_is_so_again_one_request_after_a_change(api, alice, admin, django_assert_num_queries):
    """A mark keeps nobody from writing the next entry, and neither does an entry of another epoch."""
    client = api(alice)
    for change in (lambda: access.user_access_changed(alice.pk), access.access_of_many_changed):
        change()
        assert client.get(ME).status_code == 200
        with django_assert_num_queries(0):
            assert client.get(ME).status_code == 200


def test_what_is_remembered_is_what_was_looked_up(alice, signed_in):
    first, second = (sign_in_by_token(signed_in[1].access) for _ in range(2))
    assert first == second
    assert first.user == alice
    for field in sign_in._USER_FIELDS:
        assert getattr(first.user, field) == getattr(second.user, field) == getattr(alice, field)
    assert "password" in second.user.get_deferred_fields()
    assert alice.password.encode() not in entry_of(signed_in[0])


# --- the very next request -------------------------------------------------------------------------------------------


def _other_device(alice, session):
    session_end(session_id=session.id, actor=alice, reason=SessionEnd.REVOKED)


def _password(alice, session):
    password_set(actor=alice, user=alice, password="another long passphrase")


def _deactivate(alice, session):
    alice.is_active = False
    alice.save()


def _delete_session(alice, session):
    DeviceSession.objects.get(id=session.id).delete()


def _save_session(alice, session):
    session.ended_at = session.created_at
    session.save()


def _delete_row(alice, session):
    alice.delete()


def _delete_user(alice, session):
    user_delete(actor=None, user=alice)


ENDINGS = [_other_device, _password, _deactivate, _delete_session, _save_session, _delete_row, _delete_user]


@pytest.mark.parametrize("end", ENDINGS)
def test_a_session_that_ended_is_refused_by_the_very_next_request(api, alice, signed_in, end):
    client = api(None)
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {signed_in[1].access}")
    for _ in range(2):
        assert client.get(ME).status_code == 200
    assert is_remembered(signed_in[0])
    end(alice, signed_in[0])
    for _ in range(2):
        problem_of(client.get(ME), ErrorCode.SESSION_ENDED)


def test_logging_out_is_felt_by_the_very_next_request(api, alice):
    client = api(alice)
    assert client.get(ME).status_code == 200
    assert client.post("/api/v2/auth/logout").status_code == 204
    problem_of(client.get(ME), ErrorCode.SESSION_ENDED)


def _requires_second_factor(alice):
    role = Role.objects.get(name=Role.VIEWER)  # that operators inherit from
    role.requires_second_factor = True
    role.save()


def _rule(alice):
    RouteRule.objects.create(method="GET", route="commands", permission="accounts.view_user", reason="x")


def _must_change_password(alice):
    alice.must_change_password = True
    alice.save()


def _no_roles(alice):
    alice.groups.clear()


def _no_such_member(alice):
    Role.objects.get(name=Role.OPERATOR).user_set.remove(alice)


def _role_without_permissions(alice):
    Role.objects.get(name=Role.VIEWER).permissions.clear()  # that operators inherit from


def _role_without_parent(alice):
    role = Role.objects.get(name=Role.OPERATOR)
    role.parent = None
    role.save()


def _no_such_permission(alice):
    Permission.objects.get(codename="read_own_command").delete()


CHANGES = [
    (_no_roles, ErrorCode.PERMISSION_DENIED),
    (_no_such_member, ErrorCode.PERMISSION_DENIED),
    (_role_without_permissions, ErrorCode.PERMISSION_DENIED),
    (_role_without_parent, ErrorCode.PERMISSION_DENIED),
    (_no_such_permission, ErrorCode.PERMISSION_DENIED),
    (_rule, ErrorCode.PERMISSION_DENIED),
    (_must_change_password, ErrorCode.PASSWORD_CHANGE_REQUIRED),
    (_requires_second_factor, ErrorCode.SECOND_FACTOR_SETUP_REQUIRED),
]


@pytest.mark.parametrize(("change", "code"), CHANGES)
def test_a_change_of_access_is_felt_by_the_very_next_request(api, alice, change, code):
    client = api(alice)
    for _ in range(2):
        assert client.get(COMMANDS).status_code == 200
    change(alice)
    for _ in range(2):
        answer = client.get(COMMANDS)
        assert (answer.status_code, answer.json()["code"]) == (403, code)


@pytest.fixture
def dies_after_the_commit(monkeypatch):
    """Let nothing happen that comes after a commit: as when the process is killed just then."""
    for name in ("forget", "forget_everybody"):
        monkeypatch.setattr(sign_in_cache, name, lambda *_args: None)


@pytest.mark.parametrize("end", ENDINGS)
def test_a_process_that_dies_right_after_the_commit_leaves_no_session_behind(
    api, alice, signed_in, end, dies_after_the_commit
):
    client = api(None)
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {signed_in[1].access}")
    for _ in range(2):
        assert client.get(ME).status_code == 200
    with transaction.atomic():
        end(alice, signed_in[0])
    for _ in range(2):
        problem_of(client.get(ME), ErrorCode.SESSION_ENDED)


@pytest.mark.parametrize(("change", "code"), CHANGES)
def test_nor_a_permission(api, alice, change, code, dies_after_the_commit):
    client = api(alice)
    for _ in range(2):
        assert client.get(COMMANDS).status_code == 200
    with transaction.atomic():
        change(alice)
        assert client.get(COMMANDS).status_code in (200, 403)  # whoever comes before the commit writes nothing down
    for _ in range(2):
        answer = client.get(COMMANDS)
        assert (answer.status_code, answer.json()["code"]) == (403, code)


def test_a_change_of_a_role_that_is_refused_holds_up_nobody(api, alice, signed_in):
    maker = api(person("maker", "accounts.add_role"))
    assert sign_in_by_token(signed_in[1].access)
    answer = maker.post("/api/v2/roles", {"name": "more", "permissions": ["accounts.view_user"]})
    assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied")
    assert is_remembered(signed_in[0])


def test_who_waited_for_a_redis_that_hangs_does_not_wait_again(alice, monkeypatch):
    tries = []

    def hang():
        tries.append(1)
        raise redis.TimeoutError

    monkeypatch.setattr(sign_in_cache, "_redis", hang)
    for _ in range(3):
        sign_in_cache.hold([alice.pk])
    assert len(tries) == 1


@pytest.mark.parametrize("one_by_one", [False, True])
def test_a_role_that_is_deleted_gives_nothing_any_more(api, alice, one_by_one):
    role = Role.objects.create(name="reader")
    role.permissions.add(Permission.objects.get(codename="read_own_command"))
    alice.groups.set([role])
    client = api(alice)
    for _ in range(2):
        assert client.get(COMMANDS).status_code == 200
    role.delete() if one_by_one else Role.objects.filter(name="reader").delete()
    assert client.get(COMMANDS).status_code == 403


def test_what_is_given_is_felt_by_the_very_next_request_too(api, alice):
    client = api(alice)
    _rule(alice)
    assert client.get(COMMANDS).status_code == 403
    RouteRule.objects.get().delete()
    assert client.get(COMMANDS).status_code == 200
    _requires_second_factor(alice)
    assert client.get(COMMANDS).status_code == 403
    TOTPDevice.objects.create(user=alice, confirmed=True)
    assert client.get(COMMANDS).status_code == 200


def test_if_the_sessions_of_a_user_cannot_be_read_everybody_is_looked_up(alice, signed_in, monkeypatch, caplog):
    assert sign_in_by_token(signed_in[1].access)

    def fail(**_kwargs):
        raise DatabaseError("gone")

    with transaction.atomic():
        access.user_access_changed(alice.pk)
        monkeypatch.setattr(access.DeviceSession.objects, "filter", fail)
    assert not is_remembered(signed_in[0])
    assert "could not be read" in caplog.text


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


# --- Redis in trouble ------------------------------------------------------------------------------------------------


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


def test_users_are_remembered_without_their_password(alice):
    fields = {field.attname for field in User._meta.concrete_fields}
    assert fields - set(sign_in._USER_FIELDS) == {"password", "last_login"}
