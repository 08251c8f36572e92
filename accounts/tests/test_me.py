"""What users see and change of themselves."""

import pytest
from django.core import mail
from django.db import connection

from accounts.models import AuditEntry, Mail, User
from accounts.services.mail import mails_send_due
from accounts.services.profile import ADDRESSES_PER_HOUR, TAKEN_PER_HOUR
from accounts.tests.mails import mailed_token
from accounts.tests.people import client_with_key
from conftest import PASSWORD
from gateway.api.errors import ErrorCode
from gateway.tests.expect import escaped_json, fields_of, problem_of

pytestmark = [pytest.mark.django_db, pytest.mark.security, pytest.mark.security_access]

ME, VERIFY = "/api/v2/me", "/api/v2/auth/email/verify"
NEW_ADDRESS = {"email": "new@example.com", "current_password": PASSWORD}


@pytest.fixture
def client(api, alice):
    return api(alice)


def actions():
    return list(AuditEntry.objects.order_by("id").values_list("action", flat=True))


def test_me_says_all_about_oneself_and_no_secret(client, alice):
    assert client.get(ME).json() == {
        "id": str(alice.id),
        "username": "alice",
        "email": "alice@example.com",
        "email_verified": False,
        "first_name": "",
        "last_name": "",
        "language": "en",
        "is_staff": False,
        "obligations": [],
        "date_joined": alice.date_joined.isoformat().replace("+00:00", "Z"),
    }


@pytest.mark.django_db(transaction=True)
def test_what_must_be_done_first_is_said(api, db):
    alice = User.objects.create_user("alice", "alice@example.com", PASSWORD, must_change_password=True)
    assert api(alice).get(ME).json()["obligations"] == ["password_change_required"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    "change",
    [
        {"first_name": "Ayşe"},
        {"last_name": ""},
        {"language": "tr"},
        {"first_name": "Ayşe", "last_name": "Yılmaz", "language": "tr"},
    ],
    ids=str,
)
def test_a_change_is_made_told_and_written_down(api, db, change):
    alice = User.objects.create_user("alice", "alice@example.com", PASSWORD, last_name="Old")
    client = api(alice)
    answer = client.patch(ME, change)
    assert answer.status_code == 200
    assert {field: answer.json()[field] for field in change} == change
    assert client.get(ME).json() == answer.json()
    entry = AuditEntry.objects.get(action="user_changed")
    assert {field: after for field, (_before, after) in entry.changes.items()} == change
    assert (entry.actor_id, entry.target_id) == (alice.id, str(alice.id))


@pytest.mark.parametrize(
    "change", [{}, {"language": "en"}, {"email": "alice@example.com", "current_password": PASSWORD}]
)
def test_a_change_that_changes_nothing_is_not_written_down(client, change):
    assert client.patch(ME, change).status_code == 200
    assert "user_changed" not in actions()
    assert not Mail.objects.exists()


@pytest.mark.parametrize(
    "field",
    [
        *("is_staff", "is_superuser", "is_active", "roles", "groups", "user_permissions", "id", "username", "password"),
        *("email_verified", "email_verified_at", "must_change_password", "obligations", "date_joined", "last_login"),
    ],
)
def test_nobody_lifts_themselves(client, alice, field):
    before = client.get(ME).json()
    assert fields_of(client.patch(ME, {"first_name": "x", field: True})) == {field: "unknown_field"}
    assert client.get(ME).json() == before


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({"first_name": 7}, {"first_name": "invalid"}),
        ({"first_name": None}, {"first_name": "null"}),
        ({"first_name": "x" * 151}, {"first_name": "max_length"}),
        ({"last_name": "a\0"}, {"last_name": "null_characters_not_allowed"}),
        ({"last_name": "\ud800"}, {"last_name": "surrogate_characters_not_allowed"}),
        ({"language": "de"}, {"language": "invalid_choice"}),
        ({"language": True}, {"language": "invalid_choice"}),
        ({"email": "new@example.com"}, {"current_password": "required"}),
        ({"email": "new@example.com", "current_password": None}, {"current_password": "null"}),
        ({"email": "new@example.com", "current_password": "wrong"}, {"current_password": "invalid"}),
        ({**NEW_ADDRESS, "email": "new"}, {"email": "invalid"}),
        ({**NEW_ADDRESS, "email": ""}, {"email": "blank"}),
        ({**NEW_ADDRESS, "email": "ı@example.com"}, {"email": "invalid"}),
        ({**NEW_ADDRESS, "email": "BOB@example.com"}, {"email": "unique"}),
        ({**NEW_ADDRESS, "email": "\uff42ob@example.com"}, {"email": "unique"}),
        ([], {"body": "invalid"}),
    ],
    ids=lambda value: ascii(value)[:60],
)
def test_bad_input_names_the_field_and_changes_nothing(client, bob, body, fields):
    before = client.get(ME).json()
    if isinstance(body, dict):
        body = {"first_name": "new", **body}
    assert fields_of(client.patch(ME, **escaped_json(body))) == fields
    assert client.get(ME).json() == before
    assert not Mail.objects.filter(kind="verify_email").exists()


# --- the address -----------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_a_new_address_is_unverified_until_its_token_comes_back(api, db):
    alice = User.objects.create_user("alice", "alice@example.com", PASSWORD)
    User.objects.filter(pk=alice.pk).update(email_verified_at=alice.date_joined)
    client = api(alice)
    assert client.get(ME).json()["email_verified"]
    answer = client.patch(ME, NEW_ADDRESS)
    assert (answer.json()["email"], answer.json()["email_verified"]) == ("new@example.com", False)
    token = mailed_token()
    assert {(sent.to[0], "was changed" in sent.subject) for sent in mail.outbox} == {
        ("new@example.com", False),
        ("alice@example.com", True),
    }
    assert "new@example.com" not in next(sent.body for sent in mail.outbox if sent.to == ["alice@example.com"])
    assert client.post(VERIFY, {"token": token}).status_code == 204
    assert client.get(ME).json()["email_verified"]


def test_a_token_for_the_old_address_does_not_verify_the_new_one(api, client, alice):
    client.post("/api/v2/auth/email/resend")
    token = mailed_token()
    assert client.patch(ME, NEW_ADDRESS).status_code == 200
    assert fields_of(client.post(VERIFY, {"token": token})) == {"token": "invalid"}


def test_a_wrong_password_counts_like_a_failed_sign_in(client):
    for _ in range(5):
        body = {**NEW_ADDRESS, "current_password": "wrong"}
        assert fields_of(client.patch(ME, body)) == {"current_password": "invalid"}
    problem_of(client.patch(ME, NEW_ADDRESS), ErrorCode.TOO_MANY_ATTEMPTS)
    assert "sign_in_failed" in actions()


def test_strangers_are_not_flooded_with_mails(client):
    for number in range(ADDRESSES_PER_HOUR):
        assert client.patch(ME, {**NEW_ADDRESS, "email": f"victim{number}@example.com"}).status_code == 200
    refused = client.patch(ME, NEW_ADDRESS)
    problem_of(refused, ErrorCode.TOO_MANY_ATTEMPTS)
    assert int(refused["Retry-After"]) > 0
    assert client.patch(ME, {"first_name": "Ayşe"}).status_code == 200


def test_taken_addresses_are_told_only_so_often(client, bob):
    for _ in range(TAKEN_PER_HOUR):
        assert fields_of(client.patch(ME, {**NEW_ADDRESS, "email": bob.email})) == {"email": "unique"}
    problem_of(client.patch(ME, NEW_ADDRESS), ErrorCode.TOO_MANY_ATTEMPTS)


@pytest.mark.django_db(transaction=True)
def test_where_addresses_must_be_verified_a_new_one_must_be(api, db, settings):
    settings.EMAIL_VERIFICATION_REQUIRED = True
    alice = User.objects.create_user("alice", "alice@example.com", PASSWORD)
    User.objects.filter(pk=alice.pk).update(email_verified_at=alice.date_joined)
    client = api(alice)
    assert client.get("/api/v2/commands").status_code == 200
    assert client.patch(ME, NEW_ADDRESS).json()["obligations"] == ["email_not_verified"]
    problem_of(client.get("/api/v2/commands"), ErrorCode.EMAIL_NOT_VERIFIED)


def test_ones_own_address_in_other_letters_is_not_taken(client, alice):
    answer = client.patch(ME, {**NEW_ADDRESS, "email": "Alice@Example.com"})
    assert (answer.status_code, answer.json()["email"]) == (200, "Alice@example.com")
    mails_send_due()
    assert sorted(sent.to[0] for sent in mail.outbox) == ["Alice@example.com", "alice@example.com"]


# --- who, and on which state -----------------------------------------------------------------------------------------


def test_strangers_and_machines_change_nobody(api, alice):
    for method in ("get", "patch"):
        problem_of(getattr(api(None), method)(ME), ErrorCode.NOT_AUTHENTICATED)
    machine = client_with_key(alice)
    assert machine.get(ME).json()["username"] == "alice"
    problem_of(machine.patch(ME, {"first_name": "x"}), ErrorCode.DEVICE_SESSION_REQUIRED)


@pytest.mark.django_db(transaction=True)
def test_what_was_changed_meanwhile_is_not_overwritten(api, db):
    alice = User.objects.create_user("alice", "alice@example.com", PASSWORD)
    client = api(alice)
    etag = client.get(ME)["ETag"]
    first = client.patch(ME, {"first_name": "first"}, HTTP_IF_MATCH=etag)
    assert first.status_code == 200
    problem_of(client.patch(ME, {"first_name": "second"}, HTTP_IF_MATCH=etag), ErrorCode.PRECONDITION_FAILED)
    assert client.get(ME).json()["first_name"] == "first"
    assert client.get(ME)["ETag"] == first["ETag"]
    for good in (first["ETag"], "*", f'"x", {first["ETag"]}'):
        assert client.patch(ME, {"first_name": "first"}, HTTP_IF_MATCH=good).status_code == 200


def test_a_change_of_nothing_but_a_name_asks_for_no_password(client, django_assert_max_num_queries):
    client.get(ME)
    with django_assert_max_num_queries(20):
        assert client.patch(ME, {"first_name": "Ayşe"}).status_code == 200
    assert connection.in_atomic_block  # that of the test: none was left open
