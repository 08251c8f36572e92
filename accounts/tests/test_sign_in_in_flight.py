"""A sign-in that began before somebody's access ended must not end as a session that outlives it."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier, Event

import pytest
from django.db import connection, transaction
from django.utils import timezone
from django_otp.plugins.otp_totp.models import TOTPDevice

from accounts.forms import AdminLoginForm
from accounts.models import ApiKey, DeviceSession, User
from accounts.models.sessions import SessionEnd
from accounts.services import api_keys, passwords, profile, second_factor, sessions
from accounts.services.passwords import password_set
from accounts.services.proofs import own_account_lock
from accounts.services.sessions import credentials_check, session_open, sessions_end
from accounts.services.users import user_change, user_delete
from conftest import PASSWORD
from gateway.api.errors import ApiError, ErrorCode

pytestmark = [pytest.mark.django_db, pytest.mark.security, pytest.mark.security_sessions]

ENDINGS = {
    "password": lambda user: password_set(actor=None, user=user, password="a long new password"),
    "deactivation": lambda user: user_change(actor=None, user=user, changes={"is_active": False}),
    "deletion": lambda user: user_delete(actor=None, user=user),
}
each_ending = pytest.mark.parametrize("ending", ENDINGS.values(), ids=ENDINGS)


def begin(user):
    return session_open(user=user, device_name="", lifetime=timedelta(days=1))


@each_ending
def test_no_session_begins_once_the_credentials_are_good_no_more(alice, ending):
    checked = credentials_check(login="alice", password=PASSWORD)
    ending(User.objects.get(pk=alice.pk))
    with pytest.raises(ApiError) as refused:
        begin(checked)
    assert refused.value.error_code == ErrorCode.INVALID_CREDENTIALS
    assert not DeviceSession.objects.exists()


@each_ending
@pytest.mark.django_db(transaction=True)
def test_it_waits_for_an_ending_that_is_not_committed_yet(ending, db):
    alice = User.objects.create_user("alice", "alice@example.com", PASSWORD)
    checked, changed = credentials_check(login="alice", password=PASSWORD), Event()

    def sign_in():
        assert changed.wait(20)
        try:
            return begin(checked)
        except ApiError as error:
            return error.error_code
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        outcome = pool.submit(sign_in)
        with transaction.atomic():
            ending(alice)
            changed.set()
            with pytest.raises(TimeoutError):
                outcome.result(timeout=0.2)
        assert outcome.result(timeout=20) == ErrorCode.INVALID_CREDENTIALS
    assert not DeviceSession.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_of_two_password_changes_at_once_one_wins(api, db):
    """A thief's must not undo the owner's, by coming later with the same old password."""
    alice = User.objects.create_user("alice", "alice@example.com", PASSWORD)
    clients, together = [api(alice), api(alice)], Barrier(2)

    def change(number):
        together.wait(20)
        try:
            body = {"current": PASSWORD, "new": f"a long new password {number}"}
            return clients[number].post("/api/v2/auth/password/change", body).status_code
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        statuses = list(pool.map(change, range(2)))
    assert statuses.count(204) == 1
    assert set(statuses) <= {204, 400, 401}
    alice.refresh_from_db()
    assert alice.check_password(f"a long new password {statuses.index(204)}")


OWN_ACTS = {
    "password": ("post", "auth/password/change", {"current": PASSWORD, "new": "a long other password"}),
    "address": ("patch", "me", {"email": "thief@example.com", "current_password": PASSWORD}),
    "name": ("patch", "me", {"first_name": "Thief"}),
    "second factor": ("post", "me/second-factor", {"password": PASSWORD}),
    "API key": ("post", "api-keys", {"name": "x", "scopes": ["commands.read_own_command"], "expires_at": None}),
}


@pytest.mark.parametrize("act", OWN_ACTS)
@pytest.mark.parametrize("ending", ["password", "deactivation", "deletion", "sign-out"])
def test_what_was_under_way_when_access_ended_changes_nothing(api, alice, monkeypatch, act, ending):
    def lock(user, **given):
        if ending == "sign-out":
            mine = DeviceSession.objects.filter(user=alice)
            sessions_end(sessions=mine, actor=alice, reason=SessionEnd.LOGOUT)
        else:
            ENDINGS[ending](User.objects.get(pk=alice.pk))
        return own_account_lock(user, **given)

    for module in (passwords, profile, second_factor, api_keys):
        monkeypatch.setattr(module, "own_account_lock", lock)
    client = api(alice)
    method, path, body = OWN_ACTS[act]
    if "expires_at" in body:
        body = {**body, "expires_at": (timezone.now() + timedelta(days=1)).isoformat()}
    answer = getattr(client, method)(f"/api/v2/{path}", body)
    assert answer.status_code in (400, 401), answer.content
    left = User.objects.filter(pk=alice.pk).first()
    if left is not None:
        assert not left.check_password("a long other password")
        assert (left.email, left.first_name) == ("alice@example.com", "")
    assert not ApiKey.objects.exists()
    assert not TOTPDevice.objects.exists()


def test_the_api_answers_as_to_a_wrong_password(api, alice, monkeypatch):
    def checked_too_early(**given):
        user = credentials_check(**given)
        password_set(actor=None, user=User.objects.get(pk=user.pk), password="a long new password")
        return user

    monkeypatch.setattr(sessions, "credentials_check", checked_too_early)
    answer = api(None).post("/api/v2/auth/login", {"login": "alice", "password": PASSWORD})
    assert (answer.status_code, answer.json()["code"]) == (401, "invalid_credentials")


def test_the_admin_pages_ask_again(client, admin, monkeypatch):
    clean = AdminLoginForm.clean

    def checked_too_early(form):
        given = clean(form)
        password_set(actor=None, user=User.objects.get(pk=admin.pk), password="a long new password")
        return given

    monkeypatch.setattr(AdminLoginForm, "clean", checked_too_early)
    answer = client.post("/admin/login/", {"username": "admin", "password": PASSWORD})
    assert (answer.status_code, answer["Location"]) == (302, "/admin/login/")
    assert not DeviceSession.objects.filter(ended_at=None).exists()
    assert client.get("/admin/").status_code == 302
