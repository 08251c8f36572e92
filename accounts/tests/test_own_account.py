"""An administrator's doors do not lead around the proofs that one's own account asks for."""

import pytest
from django.contrib.auth.models import Permission
from django.core.management import call_command

from accounts.models import AuditEntry, DeviceSession, User
from accounts.permissions import names_of
from accounts.second_factor import has_second_factor
from accounts.tests.people import client_with_key, person_with
from accounts.tests.second_factors import add_second_factor, code_of
from conftest import PASSWORD
from gateway.api.errors import ErrorCode
from gateway.tests.expect import problem_of

pytestmark = [pytest.mark.django_db, pytest.mark.security, pytest.mark.security_authentication]

ADMIN_USERS = "/admin/accounts/user/"


@pytest.fixture(params=["administrator", "superuser"])
def boss(request):
    if request.param == "superuser":
        return User.objects.create_superuser("boss", "boss@example.com", PASSWORD)
    return person_with("boss", "admin")


@pytest.fixture
def pages(client, boss):
    answer = client.post("/admin/login/", {"username": "boss", "password": PASSWORD})
    assert answer.status_code == 302
    return client


def test_the_own_address_cannot_be_changed_without_the_password(api, boss):
    answer = api(boss).patch(f"/api/v2/users/{boss.id}", {"email": "thief@example.com"})
    problem_of(answer, ErrorCode.PERMISSION_DENIED)
    boss.refresh_from_db()
    assert boss.email == "boss@example.com"


def test_nor_by_an_api_key_which_never_can(boss):
    machine = client_with_key(boss, *names_of(Permission.objects.all()))
    answer = machine.patch(f"/api/v2/users/{boss.id}", {"email": "thief@example.com"})
    assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied")
    boss.refresh_from_db()
    assert boss.email == "boss@example.com"


def test_the_page_for_the_password_of_others_leads_to_the_own_one(pages, boss):
    path = f"{ADMIN_USERS}{boss.id}/password/"
    given = {"password1": "a long new password", "password2": "a long new password"}
    for answer in (pages.get(path), pages.post(path, given)):
        assert (answer.status_code, answer["Location"]) == (302, "/admin/password_change/")
    boss.refresh_from_db()
    assert boss.check_password(PASSWORD)


def test_the_own_second_factor_is_not_reset_without_a_code(client, boss):
    add_second_factor(boss)
    code = code_of(boss)
    signed_in = {"username": "boss", "password": PASSWORD, "code": code}
    assert client.post("/admin/login/", signed_in).status_code == 302
    path = f"{ADMIN_USERS}{boss.id}/reset-second-factor/"
    answer = client.post(path, {"confirmed": "yes", "reason": "mine"}, follow=True)
    assert "on your own page" in answer.content.decode()
    assert has_second_factor(boss)


def test_a_password_set_on_the_command_line_ends_sessions_and_is_recorded(
    api, alice, monkeypatch, django_capture_on_commit_callbacks
):
    clients = api(alice), client_with_key(alice)
    monkeypatch.setattr("getpass.getpass", lambda **_given: "a long new password")
    with django_capture_on_commit_callbacks(execute=True):
        call_command("changepassword", "alice", verbosity=0)
    assert not DeviceSession.objects.filter(ended_at=None).exists()
    assert AuditEntry.objects.filter(action="password_changed", target_id=str(alice.id)).count() == 1
    assert [client.get("/api/v2/me").status_code for client in clients] == [401, 200]


def test_a_password_that_was_set_and_not_saved_ends_nothing(api, alice):
    client = api(alice)
    alice.set_password("a long new password")
    alice.save(update_fields=["first_name"])
    assert client.get("/api/v2/me").status_code == 200
    assert not AuditEntry.objects.filter(action="password_changed").exists()


def test_a_hash_that_is_brought_up_to_date_ends_nothing(api, alice, sign_in, settings):
    first = api(alice)
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.PBKDF2PasswordHasher", *settings.PASSWORD_HASHERS]
    assert sign_in().status_code == 200
    alice.refresh_from_db()
    assert alice.password.startswith("pbkdf2")
    assert first.get("/api/v2/me").status_code == 200
    assert not AuditEntry.objects.filter(action="password_changed").exists()
