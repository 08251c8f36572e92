"""One-use tickets that let a browser open a socket without its token in the address (where it would be logged)."""

import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from django.utils import timezone
from django_redis import get_redis_connection

from accounts.sign_in import SignIn, sign_in_by_credential
from gateway.api.errors import ApiError, ErrorCode

LIFETIME = timedelta(seconds=30)


@dataclass(frozen=True)
class Ticket:
    ticket: str
    expires_at: datetime


def ticket_issue(sign_in: SignIn) -> Ticket:
    """Return a ticket for this session; the socket that it opens lives no longer than the access token.

    Raises redis.RedisError if there is nowhere to keep it.
    """
    ticket = secrets.token_urlsafe(32)
    value = f"{sign_in.credential_id} {int(sign_in.expires_at.timestamp())}"
    get_redis_connection("default").set(_key(ticket), value, ex=LIFETIME)
    return Ticket(ticket, timezone.now() + LIFETIME)


def ticket_redeem(ticket: str) -> SignIn:
    """Use a ticket up.

    Raises ApiError: token_invalid if it is used, old or made up, token_expired if the access token that it was
    issued for has expired meanwhile, session_ended. And redis.RedisError.
    """
    value = get_redis_connection("default").getdel(_key(ticket))
    if value is None:
        raise ApiError(ErrorCode.TOKEN_INVALID)
    session_id, timestamp = value.decode().split()
    expires_at = datetime.fromtimestamp(int(timestamp), tz=UTC)
    if expires_at <= timezone.now():
        raise ApiError(ErrorCode.TOKEN_EXPIRED)
    return sign_in_by_credential(UUID(session_id), expires_at)


def _key(ticket: str) -> str:
    return f"socket-ticket:{ticket}"
