"""Making an account for oneself, and showing that the address is one's own."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier

import pytest
from django.core import mail
from django.db import connection
from django.utils import timezone

from accounts.mail_tokens import reset_token, verification_token
from accounts.models import AuditEntry, Mail, User
from accounts.services.registration import REGISTRATIONS_PER_HOUR
from accounts.tests.mails import mailed_token
from accounts.tests.people import client_with_key
from conftest import PASSWORD
from gateway.api.errors import ErrorCode
from gateway.tests.expect import escaped_json, fields_of, problem_of

pytestmark = [pytest.mark.django_db, pytest.mark.security, pytest.mark.security_authentication]

REGISTER, VERIFY, RESEND, ME = (
    "/api/v2/auth/register",
    "/api/v2/auth/email/verify",
    "/api/v2/auth/email/resend",
    "/api/v2/me",
)
NEW = {"username": "carol", "email": "carol@example.com", "password": "a long new password"}


# --- making an account -----------------------------------------------------------------------------------------------


def test_an_account_is_made_with_the_role_of_new_users_and_can_sign_in(api, db):
    answer = api(None).post(REGISTER, NEW)
    assert answer.status_code == 201
    carol = User.objects.get(username="carol")
    assert (answer.json()["id"], answer.json()["email"]) == (str(carol.id), "carol@example.com")
    assert "password" not in answer.json()
    assert [role.name for role in carol.groups.all()] == ["operator"]
    assert (carol.is_staff, carol.is_superuser, carol.email_verified_at) == (False, False, None)
    login = {"login": "carol@example.com", "password": NEW["password"]}
    assert api(None).post("/api/v2/auth/login", login).status_code == 200


def test_it_is_written_down_with_the_address_of_the_client(api, db):
    api(None).post(REGISTER, NEW, REMOTE_ADDR="192.0.2.7")
    entry = AuditEntry.objects.get(action="user_registered")
    assert (entry.actor_name, entry.target_name, entry.address) == ("carol", "carol", "192.0.2.7")
    assert NEW["password"] not in str(entry.__dict__)


@pytest.mark.parametrize(
    ("given", "header", "language"),
    [({}, "", "en"), ({}, "tr-TR,en;q=0.5", "tr"), ({}, "de", "en"), ({"language": "tr"}, "en", "tr")],
)
def test_the_language_is_the_one_that_was_asked_for(api, db, given, header, language):
    assert api(None).post(REGISTER, {**NEW, **given}, HTTP_ACCEPT_LANGUAGE=header).status_code == 201
    assert User.objects.get(username="carol").language == language


def test_where_registration_is_closed_nobody_is_made(api, db, settings):
    settings.REGISTRATION_OPEN = False
    problem_of(api(None).post(REGISTER, NEW), ErrorCode.REGISTRATION_CLOSED)
    assert not User.objects.exists()


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        ({"username": "ALICE"}, {"username": "unique"}),
        ({"username": "\uff41\uff4c\uff49\uff43\uff45"}, {"username": "unique"}),
        ({"username": "çağla"}, {"username": "unique"}),
        ({"username": "ÇAĞLA"}, {"username": "unique"}),
        ({"username": "c\u0327ag\u0306la"}, {"username": "unique"}),
        ({"email": "ALICE@EXAMPLE.com"}, {"email": "unique"}),
        ({"email": "alice\uff20example.com"}, {"email": "unique"}),
        ({"email": "\uff41lice@example.com"}, {"email": "unique"}),
        ({"username": "Alice", "email": "Alice@example.com"}, {"username": "unique", "email": "unique"}),
    ],
    ids=str,
)
def test_a_name_or_address_of_another_is_refused_in_whatever_letters(api, alice, change, fields):
    User.objects.create_user("Çağla", "cagla@example.com", PASSWORD)
    assert fields_of(api(None).post(REGISTER, {**NEW, **change})) == fields
    assert User.objects.count() == 2


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        ({"username": "аlice"}, {"username": "invalid_username"}),  # noqa: RUF001 - the Cyrillic letter is the test
        ({"username": "alice@example.com"}, {"username": "invalid_username"}),
        ({"username": "a b"}, {"username": "invalid_username"}),
        ({"username": "a\n"}, {"username": "invalid_username"}),
        ({"username": "x" * 151}, {"username": "max_length"}),
        ({"username": "ĳ" * 80}, {"username": "max_length"}),  # two letters each, when made plain
        ({"username": 7}, {"username": "invalid"}),
        ({"username": "a\0"}, {"username": "null_characters_not_allowed"}),
        ({"email": "carol"}, {"email": "invalid"}),
        ({"email": "carol@example.com\n"}, {"email": "invalid"}),
        ({"email": "carol@example.com, bob@example.com"}, {"email": "invalid"}),
        ({"email": "carol@example.com\r\nBcc: bob@example.com"}, {"email": "invalid"}),
        ({"email": "ıcarol@example.com"}, {"email": "invalid"}),
        ({"email": "carol@exampłe.com"}, {"email": "invalid"}),
        ({"email": f"{'x' * 250}@example.com"}, {"email": "max_length"}),
        ({"email": None}, {"email": "null"}),
        ({"password": "short"}, {"password": "password_too_short"}),
        ({"password": "password1234"}, {"password": "password_too_common"}),
        ({"password": "73910482650193"}, {"password": "password_entirely_numeric"}),
        ({"password": "carol@example.com"}, {"password": "password_too_similar"}),
        ({"password": "Gateway-2026!"}, {"password": "password_own_words"}),
        ({"password": "x" * 1025}, {"password": "max_length"}),
        ({"password": "\ud800" * 20}, {"password": "surrogate_characters_not_allowed"}),
        ({"language": "de"}, {"language": "invalid_choice"}),
        ({"language": ["en"]}, {"language": "invalid_choice"}),
    ],
    ids=lambda value: ascii(value)[:60],
)
def test_bad_input_names_the_field_and_makes_nobody(api, db, change, fields):
    assert fields_of(api(None).post(REGISTER, **escaped_json({**NEW, **change}))) == fields
    assert not User.objects.exists()
    assert not Mail.objects.exists()


@pytest.mark.parametrize(
    "field",
    ["is_staff", "is_superuser", "is_active", "roles", "groups", "id", "email_verified_at", "must_change_password"],
)
def test_nobody_gives_themselves_more_than_a_name(api, db, field):
    assert fields_of(api(None).post(REGISTER, {**NEW, field: True})) == {field: "unknown_field"}
    assert not User.objects.exists()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("same", ["username", "email"])
def test_of_many_who_register_a_name_at_once_one_gets_it(api, db, same):
    together = Barrier(4)

    def register(number):
        own = {"username": f"carol{number}", "email": f"carol{number}@example.com"}
        spelling = [str.lower, str.upper, str.title, str.swapcase][number]
        body = {**NEW, **own, same: spelling(NEW[same])}
        client = api(None)
        together.wait(timeout=30)
        try:
            return client.post(REGISTER, body)
        finally:
            connection.close()

    with ThreadPoolExecutor(max_workers=together.parties) as executor:
        answers = list(executor.map(register, range(together.parties)))
    assert sorted(answer.status_code for answer in answers) == [201, 400, 400, 400]
    assert [fields_of(answer) for answer in answers if answer.status_code == 400] == [{same: "unique"}] * 3
    assert (User.objects.count(), Mail.objects.count()) == (1, 1)


def test_one_client_makes_only_so_many_accounts_in_an_hour(api, db):
    for number in range(REGISTRATIONS_PER_HOUR):
        own = {"username": f"user{number}", "email": f"user{number}@example.com"}
        assert api(None).post(REGISTER, {**NEW, **own}, REMOTE_ADDR="192.0.2.7").status_code == 201
    refused = api(None).post(REGISTER, NEW, REMOTE_ADDR="192.0.2.7")
    problem_of(refused, ErrorCode.TOO_MANY_ATTEMPTS)
    assert 0 < int(refused["Retry-After"]) <= 3600
    assert api(None).post(REGISTER, NEW, REMOTE_ADDR="192.0.2.8").status_code == 201


def test_one_client_can_ask_only_for_so_many_addresses_that_are_taken(api, alice):
    """Else the refusal would tell, one after the other, who has an account."""
    for number in range(REGISTRATIONS_PER_HOUR):
        client_address = f"2001:db8::{number + 1}"  # of one network, so one client
        answer = api(None).post(REGISTER, {**NEW, "email": alice.email}, REMOTE_ADDR=client_address)
        assert fields_of(answer) == {"email": "unique"}
    problem_of(api(None).post(REGISTER, NEW, REMOTE_ADDR="2001:db8::ffff"), ErrorCode.TOO_MANY_ATTEMPTS)
    assert api(None).post(REGISTER, NEW, REMOTE_ADDR="2001:db8:1::1").status_code == 201


@pytest.mark.parametrize("with_keys", [False, True])
@pytest.mark.django_db(transaction=True)
def test_many_at_once_get_no_further_than_one_after_the_other(api, db, monkeypatch, with_keys):
    monkeypatch.setattr("accounts.services.registration.REGISTRATIONS_PER_HOUR", 3)
    together = Barrier(6)

    def register(number):
        together.wait(30)
        try:
            own = {"username": f"carol{number}", "email": f"carol{number}@example.com"}
            keys = {"HTTP_IDEMPOTENCY_KEY": str(number)} if with_keys else {}
            return api(None).post(REGISTER, {**NEW, **own}, **keys).status_code
        finally:
            connection.close()

    with ThreadPoolExecutor(together.parties) as executor:
        statuses = list(executor.map(register, range(together.parties)))
    assert sorted(statuses) == [201] * 3 + [429] * 3
    assert User.objects.count() == 3


def test_the_limit_moves_on_with_the_hour(api, db, monkeypatch):
    for number in range(REGISTRATIONS_PER_HOUR):
        api(None).post(REGISTER, {**NEW, "username": f"user{number}", "email": f"user{number}@example.com"})
    problem_of(api(None).post(REGISTER, NEW), ErrorCode.TOO_MANY_ATTEMPTS)
    monkeypatch.setattr("accounts.limits.WINDOW", timedelta(0))
    assert api(None).post(REGISTER, NEW).status_code == 201


# --- verifying the address -------------------------------------------------------------------------------------------


def test_the_token_of_the_mail_verifies_the_address_once(api, db):
    api(None).post(REGISTER, NEW)
    token = mailed_token()
    assert mail.outbox[0].to == ["carol@example.com"]
    answer = api(None).post(VERIFY, {"token": token})
    assert (answer.status_code, answer.content) == (204, b"")
    assert User.objects.get(username="carol").email_verified_at is not None
    assert AuditEntry.objects.get(action="email_verified").target_name == "carol"
    assert fields_of(api(None).post(VERIFY, {"token": token})) == {"token": "invalid"}


def test_every_token_that_is_not_good_is_refused_alike(api, alice, bob, settings):
    good = verification_token(alice)
    changed = verification_token(bob)
    User.objects.filter(pk=bob.pk).update(email="bobby@example.com")
    gone = verification_token(User(username="gone", email="gone@example.com"))
    answers = [
        api(None).post(VERIFY, {"token": token}).json()
        for token in ("x", ":", "é", good[:-1], "x" + good, good.upper(), changed, gone, reset_token(alice))
    ]
    settings.EMAIL_VERIFICATION_TIMEOUT = -1
    answers.append(api(None).post(VERIFY, {"token": good}).json())
    settings.EMAIL_VERIFICATION_TIMEOUT = 3600
    User.objects.filter(pk=alice.pk).update(is_active=False)
    answers.append(api(None).post(VERIFY, {"token": good}).json())
    assert {str({**answer, "request_id": ""}) for answer in answers} == {str({**answers[0], "request_id": ""})}
    assert answers[0]["errors"][0]["field"] == "token"
    assert not User.objects.exclude(email_verified_at=None).exists()


def test_a_token_signed_with_another_key_is_refused(api, alice, settings):
    settings.SECRET_KEY, own = "another key of sufficient length, for sure " * 2, settings.SECRET_KEY
    token = verification_token(alice)
    settings.SECRET_KEY = own
    assert fields_of(api(None).post(VERIFY, {"token": token})) == {"token": "invalid"}


@pytest.mark.django_db(transaction=True)
def test_where_it_is_required_nothing_else_can_be_done_before(api, settings, db):
    settings.EMAIL_VERIFICATION_REQUIRED = True
    alice = User.objects.create_user("alice", "alice@example.com", PASSWORD)
    client = api(alice)
    for method, path in (
        ("get", "/api/v2/commands"),
        ("post", "/api/v2/commands"),
        ("post", "/api/v2/realtime/ticket"),
    ):
        problem_of(getattr(client, method)(path, {}), ErrorCode.EMAIL_NOT_VERIFIED)
    assert client.get(ME).json()["obligations"] == ["email_not_verified"]
    assert client.patch(ME, {"email": "a@example.com", "current_password": PASSWORD}).status_code == 200
    assert client.get("/api/v2/me/sessions").status_code == 200
    assert client.post(RESEND).status_code == 202
    alice.refresh_from_db()
    assert client.post(VERIFY, {"token": verification_token(alice)}).status_code == 204
    assert client.get("/api/v2/commands").status_code == 200
    assert client.get(ME).json()["obligations"] == []


def test_another_mail_can_be_asked_for_once_in_a_while(api, alice):
    client = api(alice)
    for minutes, mails in ((0, 1), (0, 1), (2, 2), (2, 3), (2, 4), (2, 5), (2, 5), (120, 6)):
        for row in Mail.objects.all():
            Mail.objects.filter(pk=row.pk).update(created_at=row.created_at - timedelta(minutes=minutes))
        answer = client.post(RESEND)
        assert (answer.status_code, answer.content) == (202, b"")
        assert Mail.objects.count() == mails
    assert {row.address for row in Mail.objects.all()} == {alice.email}


def test_who_is_verified_gets_no_other_mail(api, alice):
    User.objects.filter(pk=alice.pk).update(email_verified_at=timezone.now())
    assert api(alice).post(RESEND).status_code == 202
    assert not Mail.objects.exists()


def test_a_mail_can_be_asked_for_only_by_whose_address_it_is(api, alice):
    problem_of(api(None).post(RESEND), ErrorCode.NOT_AUTHENTICATED)
    problem_of(client_with_key(alice).post(RESEND), ErrorCode.DEVICE_SESSION_REQUIRED)
