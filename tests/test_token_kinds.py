"""The gateway gives out tokens of many kinds. Each opens its own door and no other."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from accounts.mail_tokens import reset_token, user_of_reset_token, user_of_verification_token, verification_token
from accounts.services.api_keys import api_key_create
from accounts.services.sessions import session_refresh, session_start
from accounts.sign_in import sign_in_by_token
from commands.callbacks import callback_token, command_of_token
from commands.states import Stage
from conftest import PASSWORD
from gateway.api.errors import ApiError
from gateway.ids import new_id
from notifications.tickets import ticket_issue, ticket_redeem

pytestmark = [pytest.mark.django_db, pytest.mark.security, pytest.mark.security_sessions]

DOORS: dict[str, Callable[[str], Any]] = {
    "reset": user_of_reset_token,
    "verification": user_of_verification_token,
    "callback": lambda token: command_of_token(token, Stage.RUNNER),
    "callback of another stage": lambda token: command_of_token(token, Stage.ARCHIVE),
    "ticket": ticket_redeem,
    "refresh": lambda token: session_refresh(refresh=token),
    "access": sign_in_by_token,
    "key": sign_in_by_token,
}


@pytest.fixture
def tokens(alice):
    _session, pair = session_start(login="alice", password=PASSWORD)
    expires_at = timezone.now() + timedelta(days=1)
    _key, key = api_key_create(actor=alice, name="robot", scopes=["commands.read_own_command"], expires_at=expires_at)
    alice.refresh_from_db()
    return {
        "reset": reset_token(alice),
        "verification": verification_token(alice),
        "callback": callback_token(new_id(), Stage.RUNNER),
        "callback of another stage": callback_token(new_id(), Stage.ARCHIVE),
        "ticket": ticket_issue(sign_in_by_token(pair.access)).ticket,
        "refresh": pair.refresh,
        "access": pair.access,
        "key": key,
    }


def opens(door, token):
    try:
        return bool(DOORS[door](token))
    except ApiError:
        return False


@pytest.mark.parametrize("kind", DOORS)
def test_a_token_opens_its_own_door_and_no_other(tokens, kind):
    opened = {door for door in DOORS if opens(door, tokens[kind])}
    assert opened == ({"access", "key"} if kind in ("access", "key") else {kind})  # the same door, for two kinds
