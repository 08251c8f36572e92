"""What is remembered of a sign-in costs nothing to use, and lets nobody in whose access has ended."""

import pytest
import redis
from django.contrib.auth.models import Permission
from django.db import DatabaseError, transaction
from django_otp.plugins.otp_totp.models import TOTPDevice

from accounts import access, sign_in, sign_in_cache
from accounts.models import Role, RouteRule, User
from accounts.sign_in import sign_in_by_token
from accounts.tests.people import person
from accounts.tests.sign_in_cache.changes import CHANGES, ENDINGS, _requires_second_factor, _rule
from accounts.tests.sign_in_cache.entries import COMMANDS, ME, entry_of, is_remembered
from gateway.api.errors import ErrorCode
from gateway.tests.expect import problem_of

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.security, pytest.mark.security_sessions]


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


def test_users_are_remembered_without_their_password(alice):
    fields = {field.attname for field in User._meta.concrete_fields}
    assert fields - set(sign_in._USER_FIELDS) == {"password", "last_login"}


# --- the very next request -------------------------------------------------------------------------------------------


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
