from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db.models import Q, Value
from django.db.models.functions import Lower

from accounts.models import DeviceSession, User
from accounts.tokens import read_access_token
from gateway.api.errors import ApiError, ErrorCode


@dataclass(frozen=True)
class SignIn:
    """Who is there, through which session, and until when without a fresh token."""

    user: User
    session_id: UUID
    expires_at: datetime


def user_by_login(login: str) -> User | None:
    """Return who has this user name or e-mail address, in any letter case.

    By the same function as the unique indexes: `iexact` compares capitals, and those of `ı` and `i` are the same.
    """
    name, address = Lower(Value(User.normalize_username(login))), Lower(Value(login))
    return (
        User.objects.alias(name=Lower("username"), address=Lower("email"))
        .filter(Q(name=name) | Q(address=address))
        .first()
    )


def sign_in_by_token(raw: str) -> SignIn:
    """Return who an access token speaks for. Every door signs in through this.

    Raises ApiError: token_invalid, token_expired, session_ended.
    """
    claims = read_access_token(raw)
    return sign_in_by_session(claims.session_id, claims.expires_at)


def sign_in_by_session(session_id: UUID, expires_at: datetime) -> SignIn:
    """Raises ApiError (session_ended) if the session is over or its user may not sign in."""
    session = DeviceSession.objects.select_related("user").filter(id=session_id).first()
    if session is None or not session.is_open() or not session.user.is_active:
        raise ApiError(ErrorCode.SESSION_ENDED)
    return SignIn(session.user, session.id, expires_at)
