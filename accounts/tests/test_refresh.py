"""Rotation of refresh tokens: one successor each, and an end to a session whose token was stolen."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier

import pytest
from django.db import connection
from django.db.models import F
from rest_framework_simplejwt.tokens import RefreshToken

from accounts.audit import Action
from accounts.models import AuditEntry, DeviceSession, Mail
from accounts.models.mail import MailKind
from accounts.models.sessions import SessionEnd
from accounts.services.sessions import session_refresh, session_start
from conftest import PASSWORD
from gateway.api.errors import ErrorCode
from gateway.tests.expect import escaped_json, fields_of, problem_of

pytestmark = [pytest.mark.django_db, pytest.mark.security, pytest.mark.security_sessions]

REFRESH, ME = "/api/v2/auth/refresh", "/api/v2/me"


@pytest.fixture
def first(alice):
    """The refresh token of a new session."""
    return session_start(login="alice", password=PASSWORD)[1].refresh


@pytest.fixture
def refresh(api):
    return lambda token: api(None).post(REFRESH, {"refresh": token})


def let_the_grace_pass():
    grace = DeviceSession.REUSE_GRACE + timedelta(seconds=1)
    DeviceSession.objects.update(refreshed_at=F("refreshed_at") - grace)


def test_a_refresh_gives_a_new_pair_of_the_same_session(api, refresh, first):
    body = refresh(first).json()
    assert body.keys() == {"access", "access_expires_at", "refresh", "refresh_expires_at"}
    assert body["refresh"] != first
    assert api(None).get(ME, HTTP_AUTHORIZATION=f"Bearer {body['access']}").status_code == 200
    assert DeviceSession.objects.count() == 1


def test_a_chain_of_refreshes_goes_on(refresh, first):
    tokens = [first]
    for _ in range(5):
        let_the_grace_pass()
        tokens.append(refresh(tokens[-1]).json()["refresh"])
    assert len(set(tokens)) == 6


def test_the_token_before_gives_the_same_successor_within_the_grace(refresh, first):
    successors = {refresh(first).json()["refresh"] for _ in range(3)}
    assert len(successors) == 1
    assert refresh(successors.pop()).status_code == 200


def test_the_token_before_ends_the_session_after_the_grace(api, refresh, first):
    newest = refresh(first).json()
    let_the_grace_pass()
    problem_of(refresh(first), ErrorCode.TOKEN_REUSED)
    problem_of(refresh(newest["refresh"]), ErrorCode.SESSION_ENDED)
    problem_of(api(None).get(ME, HTTP_AUTHORIZATION=f"Bearer {newest['access']}"), ErrorCode.SESSION_ENDED)


def test_a_token_two_steps_back_ends_the_session_even_within_the_grace(refresh, first):
    newest = refresh(refresh(first).json()["refresh"]).json()["refresh"]
    problem_of(refresh(first), ErrorCode.TOKEN_REUSED)
    problem_of(refresh(newest), ErrorCode.SESSION_ENDED)


def test_a_stolen_token_ends_only_its_own_session(refresh, first, alice):
    other = session_start(login="alice", password=PASSWORD)[1].refresh
    refresh(first)
    let_the_grace_pass()
    problem_of(refresh(first), ErrorCode.TOKEN_REUSED)
    assert refresh(other).status_code == 200


def test_a_theft_is_told_to_the_user_and_written_down(refresh, first, alice):
    refresh(first)
    let_the_grace_pass()
    problem_of(refresh(first), ErrorCode.TOKEN_REUSED)
    assert Mail.objects.get(kind=MailKind.SESSION_STOLEN).user == alice
    session = DeviceSession.objects.get()
    assert session.end_reason == SessionEnd.REUSE
    assert AuditEntry.objects.get(action=Action.REFRESH_TOKEN_REUSED).target_id == str(session.id)


def test_a_thief_as_quick_as_the_owner_is_found_out_by_the_next_refresh(refresh, first):
    own, stolen = (refresh(first).json()["refresh"] for _ in range(2))
    assert refresh(own).status_code == 200
    let_the_grace_pass()
    problem_of(refresh(stolen), ErrorCode.TOKEN_REUSED)


def test_an_expired_refresh_token_says_so(refresh, first):
    token = RefreshToken(first)
    token.set_exp(lifetime=-timedelta(seconds=1))
    problem_of(refresh(str(token)), ErrorCode.TOKEN_EXPIRED)


def test_a_user_who_was_deactivated_gets_no_new_tokens(refresh, first, alice):
    alice.is_active = False
    alice.save()
    problem_of(refresh(first), ErrorCode.SESSION_ENDED)


def test_a_user_who_was_deleted_gets_no_new_tokens(refresh, first, alice):
    alice.delete()
    problem_of(refresh(first), ErrorCode.SESSION_ENDED)


@pytest.mark.parametrize("garbage", ["x", "a.b.c", "é.ü.ı", "W1tb" * 900 + ".e30.e30"])
def test_garbage_is_refused(refresh, db, garbage):
    problem_of(refresh(garbage), ErrorCode.TOKEN_INVALID)


@pytest.mark.parametrize(
    ("body", "errors"),
    [
        ({}, {"refresh": "required"}),
        ({"refresh": None}, {"refresh": "null"}),
        ({"refresh": ""}, {"refresh": "blank"}),
        ({"refresh": 1}, {"refresh": "invalid"}),
        ({"refresh": "x" * 5000}, {"refresh": "max_length"}),
        ({"refresh": "a\0"}, {"refresh": "null_characters_not_allowed"}),
        ({"refresh": "\udfff"}, {"refresh": "surrogate_characters_not_allowed"}),
        ({"refresh": "x", "access": "y"}, {"access": "unknown_field"}),
        ([], {"body": "invalid"}),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_is_wrong_with_the_body_is_named(api, db, body, errors):
    assert fields_of(api(None).post(REFRESH, **escaped_json(body))) == errors


@pytest.mark.django_db(transaction=True)
def test_refreshes_of_one_token_at_once_give_one_successor(first):
    """Two tabs wake up together: both must stay signed in, with tokens of one and the same line."""
    together = Barrier(4)

    def refresh_together(_number):
        together.wait(timeout=30)
        try:
            return session_refresh(refresh=first).refresh
        finally:
            connection.close()

    with ThreadPoolExecutor(max_workers=together.parties) as executor:
        successors = set(executor.map(refresh_together, range(together.parties)))
    assert len(successors) == 1
    assert session_refresh(refresh=successors.pop()).refresh
