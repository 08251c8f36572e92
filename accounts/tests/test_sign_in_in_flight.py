"""A sign-in that began before somebody's access ended must not end as a session that outlives it."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Event

import pytest
from django.db import connection, transaction

from accounts.forms import AdminLoginForm
from accounts.models import DeviceSession, User
from accounts.services import sessions
from accounts.services.passwords import password_set
from accounts.services.sessions import credentials_check, session_open
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
