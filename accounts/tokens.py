"""The tokens of a session. The only module that knows SimpleJWT."""

from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

from django.utils import timezone
from rest_framework_simplejwt.exceptions import ExpiredTokenError, TokenError
from rest_framework_simplejwt.tokens import AccessToken, RefreshToken, Token

from accounts.models import DeviceSession
from gateway.api.errors import ApiError, ErrorCode


@dataclass(frozen=True)
class TokenPair:
    access: str
    access_expires_at: datetime
    refresh: str
    refresh_expires_at: datetime


@dataclass(frozen=True)
class Claims:
    """What a valid token says: which session it belongs to, whose that is, and until when."""

    session_id: UUID
    user_id: UUID
    jti: str
    expires_at: datetime


def tokens_of(session: DeviceSession) -> TokenPair:
    """Return the session's refresh token (always the same one, until it is rotated) and a fresh access token."""
    refresh = RefreshToken()
    refresh["sid"] = str(session.id)
    refresh["sub"] = str(session.user_id)
    refresh["jti"] = session.refresh_jti
    refresh["iat"] = int(session.refreshed_at.timestamp())
    refresh["exp"] = int(session.expires_at.timestamp())
    access = refresh.access_token
    return TokenPair(str(access), _time(access["exp"]), str(refresh), _time(refresh["exp"]))


def read_access_token(raw: str) -> Claims:
    """Raise ApiError (token_expired, token_invalid) unless this gateway signed it and it is still good."""
    claims = _read_once(raw)
    if claims.expires_at <= timezone.now():
        raise ApiError(ErrorCode.TOKEN_EXPIRED)
    return claims


def read_refresh_token(raw: str) -> Claims:
    """Raise ApiError (token_expired, token_invalid) unless this gateway signed it and it is still good."""
    return _read(RefreshToken, raw)


# A token comes with every request of some minutes, and what it says does not change: only its time can run out.
@lru_cache(maxsize=4096)
def _read_once(raw: str) -> Claims:
    return _read(AccessToken, raw)


def _read(kind: type[Token], raw: str) -> Claims:
    try:
        token: Any = kind(raw)  # type: ignore[arg-type]  # the stub wants a Token; SimpleJWT takes the text
        return Claims(UUID(str(token["sid"])), UUID(str(token["sub"])), str(token["jti"]), _time(token["exp"]))
    except ExpiredTokenError as error:
        raise ApiError(ErrorCode.TOKEN_EXPIRED) from error
    except (TokenError, KeyError, ValueError, TypeError, OverflowError, OSError) as error:
        raise ApiError(ErrorCode.TOKEN_INVALID) from error


def _time(timestamp: int) -> datetime:
    return datetime.fromtimestamp(timestamp, tz=timezone.get_default_timezone())
