"""Passwords forgotten, reset and changed; and what an attacker must not learn or do on the way."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier

import pytest
from django.core import mail
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.mail_tokens import reset_token, verification_token
from accounts.models import AuditEntry, DeviceSession, FailedSignIns, Mail, User
from accounts.services.mail import mails_send_due
from accounts.services.passwords import RESETS_PER_HOUR, password_reset, password_set
from accounts.services.sessions import session_start
from accounts.tests.mails import mailed_token
from accounts.tests.people import client_with_key
from conftest import PASSWORD
from gateway.api.errors import ErrorCode
from gateway.ids import new_id
from gateway.tests.expect import escaped_json, fields_of, problem_of

pytestmark = [pytest.mark.django_db, pytest.mark.security, pytest.mark.security_authentication]

FORGOT, RESET, CHANGE = (f"/api/v2/auth/password/{name}" for name in ("forgot", "reset", "change"))
LOGIN, REFRESH, ME = "/api/v2/auth/login", "/api/v2/auth/refresh", "/api/v2/me"
NEW = "a long new password"


def can_sign_in(api, password, login="alice"):
    answer = api(None).post(LOGIN, {"login": login, "password": password})
    assert answer.status_code in (200, 401)
    return answer.status_code == 200


def forgot(api, email, **extra):
    return api(None).post(FORGOT, {"email": email}, **extra)


def reset(api, token, password=NEW):
    return api(None).post(RESET, {"token": token, "password": password})


def change(client, current=PASSWORD, new=NEW):
    return client.post(CHANGE, {"current": current, "new": new})


def actions():
    return list(AuditEntry.objects.order_by("id").values_list("action", flat=True))


# --- forgot ----------------------------------------------------------------------------------------------------------


def test_who_forgot_the_password_sets_a_new_one_by_mail(api, alice):
    assert forgot(api, "ALICE@Example.com").status_code == 202
    token = mailed_token()
    assert mail.outbox[0].to == ["alice@example.com"]
    answer = reset(api, token)
    assert (answer.status_code, answer.content) == (204, b"")
    assert can_sign_in(api, NEW)
    assert not can_sign_in(api, PASSWORD)


def test_it_takes_the_same_whether_or_not_a_user_has_the_address(api, alice, bob):
    """The same answer, and the same questions to the database: so the same time. The worker looks the user up."""
    User.objects.filter(pk=bob.pk).update(is_active=False)
    seen = []
    for email in ("alice@example.com", "nobody@example.com", "bob@example.com"):
        with CaptureQueriesContext(connection) as queries:
            answer = forgot(api, email)
        masked = [query["sql"].replace(email, "address") for query in queries.captured_queries]
        kinds = [
            sql.split()[0] + sql.partition("FROM" if sql.startswith("SELECT") else "INTO")[2][:30] for sql in masked
        ]
        seen.append((answer.status_code, answer.content, {**answer.headers, "X-Request-ID": ""}, kinds))
    assert seen[0] == seen[1] == seen[2]
    assert not any("accounts_user" in kind for kind in seen[0][3])
    assert Mail.objects.count() == 3


def test_whoever_may_not_sign_in_by_password_gets_no_mail(api, alice, bob):
    User.objects.filter(pk=alice.pk).update(is_active=False)
    bob.set_unusable_password()
    bob.save()
    for email in ("alice@example.com", "bob@example.com", "nobody@example.com"):
        assert forgot(api, email).status_code == 202
    mails_send_due()
    assert mail.outbox == []
    assert not Mail.objects.exclude(due_at=None).exists()


def test_the_mail_goes_to_the_address_as_the_user_wrote_it(api, db):
    """Not as somebody asked for it: letters that only become the same would lead it elsewhere."""
    User.objects.create_user("mike", "mike@example.org", PASSWORD)
    assert fields_of(forgot(api, "mıke@example.org")) == {"email": "invalid"}
    assert forgot(api, "MIKE@example.org").status_code == 202
    mailed_token()
    assert mail.outbox[0].to == ["mike@example.org"]


def test_an_address_gets_only_so_many_mails_and_nobody_is_told(api, alice):
    for email in ("alice@example.com", "nobody@example.com"):
        for minutes, mails in ((0, 1), (0, 1), (2, 2), (2, 3), (2, 4), (2, 5), (2, 5), (120, 6)):
            for row in Mail.objects.filter(address=email):
                Mail.objects.filter(pk=row.pk).update(created_at=row.created_at - timedelta(minutes=minutes))
            answer = forgot(api, email.title())
            assert (answer.status_code, answer.content) == (202, b"")
            assert Mail.objects.filter(address=email).count() == mails


def test_one_client_asks_only_for_so_many_addresses_in_an_hour(api, alice):
    for number in range(RESETS_PER_HOUR):
        assert forgot(api, f"user{number}@example.com", REMOTE_ADDR="192.0.2.7").status_code == 202
    for email in ("alice@example.com", "nobody@example.com"):
        refused = forgot(api, email, REMOTE_ADDR="192.0.2.7")
        problem_of(refused, ErrorCode.TOO_MANY_ATTEMPTS)
        assert int(refused["Retry-After"]) > 0
    assert forgot(api, "alice@example.com", REMOTE_ADDR="192.0.2.8").status_code == 202


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, {"email": "required"}),
        ({"email": "alice"}, {"email": "invalid"}),
        ({"email": 7}, {"email": "invalid"}),
        ({"email": "a\0@example.com"}, {"email": "null_characters_not_allowed"}),
        ({"email": "\ud800@example.com"}, {"email": "surrogate_characters_not_allowed"}),
        ({"email": "alice@example.com", "user": "bob"}, {"user": "unknown_field"}),
    ],
    ids=ascii,
)
def test_what_is_wrong_with_an_address_is_named(api, alice, body, fields):
    assert fields_of(api(None).post(FORGOT, **escaped_json(body))) == fields
    assert not Mail.objects.exists()


# --- reset -----------------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_a_reset_ends_all_sessions_at_once_and_is_told_and_written_down(api, db):
    alice = User.objects.create_user("alice", "alice@example.com", PASSWORD)
    clients = [api(alice), api(alice)]
    assert [client.get(ME).status_code for client in clients] == [200, 200]
    alice.refresh_from_db()
    assert reset(api, reset_token(alice)).status_code == 204
    for client in clients:
        problem_of(client.get(ME), ErrorCode.SESSION_ENDED)
    assert set(DeviceSession.objects.values_list("end_reason", flat=True)) == {"password"}
    assert actions()[-4:] == ["email_verified", "session_ended", "session_ended", "password_changed"]
    mails_send_due()
    assert [(sent.to, "password was changed" in sent.subject) for sent in mail.outbox] == [([alice.email], True)]


def test_an_api_key_stays_good(api, alice):
    User.objects.filter(pk=alice.pk).update(email_verified_at=timezone.now())
    client = client_with_key(alice)
    assert reset(api, reset_token(alice)).status_code == 204
    assert client.get(ME).status_code == 200


def test_who_proves_an_address_is_rid_of_the_api_keys_of_who_took_it(api, alice):
    """Somebody registers with the address of another, makes an API key, and waits for its owner to come."""
    client = client_with_key(alice)
    assert reset(api, reset_token(alice)).status_code == 204
    problem_of(client.get(ME), ErrorCode.SESSION_ENDED)
    assert actions().count("api_key_revoked") == 1


def test_a_reset_by_mail_proves_the_address_and_is_a_change_of_password(api, alice):
    User.objects.filter(pk=alice.pk).update(must_change_password=True)
    assert reset(api, reset_token(alice)).status_code == 204
    alice.refresh_from_db()
    assert alice.email_verified_at is not None
    assert not alice.must_change_password


def test_who_was_slowed_down_by_an_attacker_can_sign_in_after_a_reset(api, alice):
    for _ in range(6):
        api(None).post(LOGIN, {"login": "alice", "password": "wrong"})
    problem_of(api(None).post(LOGIN, {"login": "alice", "password": PASSWORD}), ErrorCode.TOO_MANY_ATTEMPTS)
    assert reset(api, reset_token(alice)).status_code == 204
    assert can_sign_in(api, NEW)


def test_every_token_that_is_not_good_is_refused_alike(api, alice, bob, settings):
    good = reset_token(alice)
    answers = [
        reset(api, token).json()
        for token in (
            *("x", ".", "é.x", good[:-1], good + "x", good.upper(), good.partition(".")[2]),
            f"{bob.pk.hex}.{good.partition('.')[2]}",
            f"{new_id().hex}.{good.partition('.')[2]}",
            verification_token(alice),
            reset_token(User(username="gone", email="gone@example.com", password=bob.password)),
        )
    ]
    settings.PASSWORD_RESET_TIMEOUT = -1
    answers.append(reset(api, good).json())
    settings.PASSWORD_RESET_TIMEOUT = 3600
    User.objects.filter(pk=alice.pk).update(is_active=False)
    answers.append(reset(api, good).json())
    User.objects.filter(pk=alice.pk).update(is_active=True)
    assert reset(api, good).status_code == 204
    answers.append(reset(api, good, "yet another password").json())
    assert len({str({**answer, "request_id": ""}) for answer in answers}) == 1
    assert [(error["field"], error["code"]) for error in answers[0]["errors"]] == [("token", "invalid")]
    assert can_sign_in(api, NEW)


@pytest.mark.parametrize("what", ["address", "password", "sign-in", "unusable"])
def test_a_token_is_worth_nothing_after_a_change(api, alice, what):
    token = reset_token(alice)
    if what == "address":
        User.objects.filter(pk=alice.pk).update(email="other@example.com")
    elif what == "sign-in":
        session_start(login="alice", password=PASSWORD)
    elif what == "password":
        password_set(actor=None, user=alice, password=NEW)
    else:
        alice.set_unusable_password()
        alice.save()
    assert fields_of(reset(api, token, "yet another password")) == {"token": "invalid"}


def test_a_token_is_signed_with_the_key_of_this_gateway(api, alice, settings):
    own, settings.SECRET_KEY = settings.SECRET_KEY, "another key of sufficient length, for sure " * 2
    token = reset_token(alice)
    settings.SECRET_KEY = own
    assert fields_of(reset(api, token)) == {"token": "invalid"}


@pytest.mark.parametrize(
    ("password", "code"),
    [
        ("short", "password_too_short"),
        ("alice@example.com", "password_too_similar"),
        ("73910482650193", "password_entirely_numeric"),
        ("x" * 1025, "max_length"),
        ("a\0" * 10, "null_characters_not_allowed"),
    ],
)
def test_a_weak_password_uses_no_token_up(api, alice, password, code):
    token = reset_token(alice)
    assert fields_of(reset(api, token, password)) == {"password": code}
    assert reset(api, token).status_code == 204


def test_a_weak_password_tells_nothing_about_a_token(api, alice):
    assert fields_of(reset(api, "x", "short")) == {"token": "invalid"}


@pytest.mark.django_db(transaction=True)
def test_of_two_who_use_a_token_at_once_one_sets_the_password(db):
    alice = User.objects.create_user("alice", "alice@example.com", PASSWORD)
    token, together = reset_token(alice), Barrier(3)

    def use(number):
        together.wait(timeout=30)
        try:
            password_reset(token=token, password=f"{NEW} {number}")
        except Exception:  # noqa: BLE001 - counted
            return None
        else:
            return number
        finally:
            connection.close()

    with ThreadPoolExecutor(max_workers=together.parties) as executor:
        winners = [number for number in executor.map(use, range(together.parties)) if number is not None]
    assert len(winners) == 1
    alice.refresh_from_db()
    assert alice.check_password(f"{NEW} {winners[0]}")
    assert actions().count("password_changed") == 1


# --- change ----------------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_a_change_ends_all_other_sessions_at_once(api, db):
    alice = User.objects.create_user("alice", "alice@example.com", PASSWORD)
    here, there = api(alice), api(alice)
    refresh = session_start(login="alice", password=PASSWORD)[1].refresh
    assert [client.get(ME).status_code for client in (here, there)] == [200, 200]
    answer = change(here)
    assert (answer.status_code, answer.content) == (204, b"")
    assert here.get(ME).status_code == 200
    problem_of(there.get(ME), ErrorCode.SESSION_ENDED)
    problem_of(api(None).post(REFRESH, {"refresh": refresh}), ErrorCode.SESSION_ENDED)
    assert can_sign_in(api, NEW)
    assert not can_sign_in(api, PASSWORD)
    entry = AuditEntry.objects.get(action="password_changed")
    assert (entry.actor_id, entry.target_id) == (alice.id, str(alice.id))
    assert not any(secret in str(entry.__dict__) for secret in (PASSWORD, NEW))
    mails_send_due()
    assert [sent.to for sent in mail.outbox] == [[alice.email]]


def test_it_leaves_others_and_api_keys_alone(api, alice, bob):
    other, machine = api(bob), client_with_key(alice)
    assert change(api(alice)).status_code == 204
    assert [client.get(ME).status_code for client in (other, machine)] == [200, 200]


@pytest.mark.django_db(transaction=True)
def test_who_must_change_the_password_can_do_so_and_then_all_else(api, db):
    alice = User.objects.create_user("alice", "alice@example.com", PASSWORD, must_change_password=True)
    client = api(alice)
    problem_of(client.get("/api/v2/commands"), ErrorCode.PASSWORD_CHANGE_REQUIRED)
    assert fields_of(change(client, new=PASSWORD)) == {"new": "unchanged"}
    problem_of(client.get("/api/v2/commands"), ErrorCode.PASSWORD_CHANGE_REQUIRED)
    assert change(client).status_code == 204
    assert client.get("/api/v2/commands").status_code == 200


def test_a_wrong_password_counts_like_a_failed_sign_in(api, alice):
    client = api(alice)
    for _ in range(5):
        assert fields_of(change(client, current="wrong")) == {"current": "invalid"}
    refused = change(client)
    problem_of(refused, ErrorCode.TOO_MANY_ATTEMPTS)
    assert int(refused["Retry-After"]) > 0
    FailedSignIns.objects.update(blocked_until=timezone.now())
    assert change(client).status_code == 204
    assert "sign_in_failed" in actions()


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, {"current": "required", "new": "required"}),
        ({"current": PASSWORD, "new": "short"}, {"new": "password_too_short"}),
        ({"current": PASSWORD, "new": "alice@example.com"}, {"new": "password_too_similar"}),
        ({"current": PASSWORD, "new": 7}, {"new": "invalid"}),
        ({"current": None, "new": NEW}, {"current": "null"}),
        ({"current": "x" * 1025, "new": "x" * 1025}, {"current": "max_length", "new": "max_length"}),
        ({"current": PASSWORD, "new": "\ud800" * 12}, {"new": "surrogate_characters_not_allowed"}),
        ({"current": PASSWORD, "new": NEW, "is_staff": True}, {"is_staff": "unknown_field"}),
        ({"current": PASSWORD, "new": NEW, "user": "bob"}, {"user": "unknown_field"}),
    ],
    ids=lambda value: ascii(value)[:60],
)
def test_bad_input_names_the_field_and_changes_nothing(api, alice, body, fields):
    assert fields_of(api(alice).post(CHANGE, **escaped_json(body))) == fields
    alice.refresh_from_db()
    assert alice.check_password(PASSWORD)


def test_only_a_person_on_a_device_changes_a_password(api, alice):
    problem_of(change(api(None)), ErrorCode.NOT_AUTHENTICATED)
    problem_of(change(client_with_key(alice)), ErrorCode.DEVICE_SESSION_REQUIRED)


def test_a_password_is_taken_as_it_is_with_blanks_and_any_alphabet(api, alice):
    password = "  şifrem 🔑 uzun "
    assert change(api(alice), new=password).status_code == 204
    assert can_sign_in(api, password)
    assert not can_sign_in(api, password.strip())
