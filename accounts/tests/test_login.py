"""Signing in: who gets tokens, who does not, and what a bad request is told."""

from datetime import timedelta

import pytest
from django.utils import timezone

from accounts.models import DeviceSession, User
from conftest import PASSWORD
from gateway.api.errors import ErrorCode
from gateway.tests.expect import escaped_json, fields_of, problem_of

pytestmark = [pytest.mark.django_db, pytest.mark.security, pytest.mark.security_authentication]

LOGIN = "/api/v2/auth/login"
GOOD = {"login": "alice", "password": PASSWORD}


@pytest.mark.parametrize("login", ["alice", "ALICE", "alice@example.com", "Alice@Example.COM"])
def test_one_signs_in_by_user_name_or_address_in_any_letter_case(api, alice, login):
    answer = api(None).post(LOGIN, {"login": login, "password": PASSWORD})
    assert answer.status_code == 200
    assert answer.json()["user"]["id"] == str(alice.id)


def test_the_answer_holds_the_tokens_their_ends_the_session_and_the_user(api, alice):
    body = api(None).post(LOGIN, {**GOOD, "device_name": "Telefon"}).json()
    session = DeviceSession.objects.get(id=body["session_id"])
    assert (session.user, session.device_name) == (alice, "Telefon")
    assert body.keys() == {"access", "access_expires_at", "refresh", "refresh_expires_at", "session_id", "user"}
    assert body["access_expires_at"] < body["refresh_expires_at"]
    assert body["access_expires_at"].endswith("Z")
    alice.refresh_from_db()
    assert timezone.now() - alice.last_login < timedelta(minutes=1)


def test_every_login_is_a_session_of_its_own(api, alice):
    sessions = {api(None).post(LOGIN, GOOD).json()["session_id"] for _ in range(3)}
    assert len(sessions) == 3


def test_a_user_name_matches_however_its_letters_were_composed(api, db):
    User.objects.create_user("çağrı", "cagri@example.com", PASSWORD)
    decomposed = "c\u0327ag\u0306r\u0131"
    assert api(None).post(LOGIN, {"login": decomposed, "password": PASSWORD}).status_code == 200


def test_a_dotless_i_is_no_other_i_at_the_sign_in(api, db):
    User.objects.create_user("alı", "ali@example.com", PASSWORD)
    assert api(None).post(LOGIN, {"login": "alı", "password": PASSWORD}).status_code == 200
    problem_of(api(None).post(LOGIN, {"login": "ali", "password": PASSWORD}), ErrorCode.INVALID_CREDENTIALS)


@pytest.mark.parametrize(
    "given",
    [
        {"login": "alice", "password": "wrong"},
        {"login": "alice", "password": PASSWORD.upper()},
        {"login": "alice", "password": PASSWORD + " "},
        {"login": "nobody", "password": PASSWORD},
        {"login": "bob", "password": PASSWORD},
        {"login": " alice", "password": PASSWORD},
        {"login": "%", "password": PASSWORD},
        {"login": "alic_", "password": PASSWORD},
    ],
    ids=str,
)
def test_every_cause_of_a_refusal_looks_the_same(api, alice, bob, given):
    bob.is_active = False
    bob.save()
    body = problem_of(api(None).post(LOGIN, given), ErrorCode.INVALID_CREDENTIALS)
    assert body["detail"] == "No active account has this login and password."
    assert not DeviceSession.objects.exists()


def test_a_user_without_a_usable_password_cannot_sign_in(api, alice):
    alice.set_unusable_password()
    alice.save()
    for password in (PASSWORD, alice.password, "!"):
        problem_of(api(None).post(LOGIN, {"login": "alice", "password": password}), ErrorCode.INVALID_CREDENTIALS)


@pytest.mark.parametrize("field", ["login", "password", "device_name"])
@pytest.mark.parametrize(
    ("value", "code"),
    [
        (7, "invalid"),
        (True, "invalid"),
        (["alice"], "invalid"),
        ({"a": 1}, "invalid"),
        (None, "null"),
        ("", "blank"),
        (" \t", "blank"),
        ("x" * 2000, "max_length"),
        ("a\0b", "null_characters_not_allowed"),
        ("a\ud800b", "surrogate_characters_not_allowed"),
    ],
)
def test_a_value_that_cannot_be_is_named(api, alice, field, value, code):
    assert fields_of(api(None).post(LOGIN, **escaped_json({**GOOD, field: value}))) == {field: code}


@pytest.mark.parametrize("missing", ["login", "password"])
def test_a_field_that_is_missing_is_named(api, alice, missing):
    given = {name: value for name, value in GOOD.items() if name != missing}
    assert fields_of(api(None).post(LOGIN, given)) == {missing: "required"}


@pytest.mark.parametrize("name", ["username", "is_staff", "", "login.", "\0"])
def test_a_field_that_is_unknown_is_named(api, alice, name):
    assert fields_of(api(None).post(LOGIN, {**GOOD, name: 1})) == {name or "body": "unknown_field"}


def test_half_of_a_surrogate_pair_as_a_field_name_is_refused_and_not_an_error_of_ours(api, alice):
    assert fields_of(api(None).post(LOGIN, **escaped_json({**GOOD, "\ud800": 1}))) == {"?": "unknown_field"}


def test_a_password_is_taken_as_it_is_with_blanks_and_any_alphabet(api, db):
    password = "  şifre 🔑 "
    User.objects.create_user("carol", "carol@example.com", password)
    assert api(None).post(LOGIN, {"login": "carol", "password": password}).status_code == 200
    problem_of(api(None).post(LOGIN, {"login": "carol", "password": password.strip()}), ErrorCode.INVALID_CREDENTIALS)
