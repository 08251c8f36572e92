"""Who is asking, and what may they do: the one way in for HTTP, sockets and tickets."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import sha256
from hmac import compare_digest
from typing import Any
from uuid import UUID

from django.conf import settings
from django.utils import timezone

from accounts import sign_in_cache
from accounts.models import ApiKey, DeviceSession, Role, RouteRule, User
from accounts.permissions import user_permissions, user_roles
from accounts.second_factor import has_second_factor
from accounts.tokens import read_access_token
from gateway.api.errors import ApiError, ErrorCode
from gateway.origin import origin

API_KEY_START = "altlas_"
LAST_SEEN_STEP = timedelta(minutes=1)
_NEVER = datetime.max.replace(tzinfo=UTC)
# All but the password hash, and what changes with every sign-in.
_USER_FIELDS = [
    field.attname
    for field in User._meta.concrete_fields  # noqa: SLF001 - Django's documented API of models
    if field.attname not in ("password", "last_login")
]
# How a field is written as JSON, and read again, if not as it is.
_AS_TEXT: dict[str, tuple[Callable[[Any], str], Callable[[str], Any]]] = {
    "id": (str, UUID),
    "email_verified_at": (datetime.isoformat, datetime.fromisoformat),
    "date_joined": (datetime.isoformat, datetime.fromisoformat),
}


@dataclass(frozen=True)
class SignIn:
    """Who is there, through which session or API key, until when without a fresh token, and what they may do.

    `denied_routes` are those that a rule closes to them, each with what it asks for. `obligations` are error codes of
    what must be done before anything else.
    """

    user: User
    credential_id: UUID
    is_api_key: bool
    expires_at: datetime
    permissions: frozenset[str]
    denied_routes: dict[str, str]
    obligations: tuple[ErrorCode, ...]

    def allows(self, permission: str) -> bool:
        return permission in self.permissions


def sign_in_by_token(raw: str) -> SignIn:
    """Return who an access token or an API key speaks for. Every door signs in through this.

    Raises ApiError: token_invalid, token_expired, session_ended.
    """
    if not raw.startswith(API_KEY_START):
        claims = read_access_token(raw)
        sign_in = sign_in_by_credential(claims.session_id, claims.expires_at)
        if sign_in.user.pk != claims.user_id:
            raise ApiError(ErrorCode.TOKEN_INVALID)
        return sign_in
    try:
        key_id = UUID(raw.removeprefix(API_KEY_START).partition("_")[0])
    except ValueError:
        raise ApiError(ErrorCode.TOKEN_INVALID) from None
    return sign_in_by_credential(key_id, _NEVER, api_key=raw)


def sign_in_by_credential(credential_id: UUID, expires_at: datetime, *, api_key: str | None = None) -> SignIn:
    """Return who a session or an API key speaks for; `api_key` is proof of the latter, where it has to be proved.

    Raises ApiError: session_ended if it is over or its user may not sign in, token_invalid for a wrong key.
    """
    remembered, glance = sign_in_cache.read(credential_id)
    known = _known_from(remembered)
    if known is None:
        found = _look_up(credential_id, api_key)
        sign_in_cache.write(credential_id, glance, found)
        known = _Known(found)
    if api_key is not None and not compare_digest(sha256_of(api_key), known.key_sha256):
        raise ApiError(ErrorCode.TOKEN_INVALID)
    return _sign_in(known, credential_id, expires_at)


def remembered_sign_in(access_token: str, key: str = "") -> tuple[SignIn, bytes] | None:
    """Return who an access token speaks for and what Redis holds at `key`, both in one round trip.

    None if the database would have to be asked: `sign_in_by_token` does. Raises ApiError as it does.
    """
    claims = read_access_token(access_token)
    found = sign_in_cache.read_beside(claims.session_id, key)
    known = _known_from_json(found[0]) if found else None
    if found is None or known is None or known.user_id != claims.user_id:
        return None
    return _sign_in(known, claims.session_id, claims.expires_at), found[1]


def _sign_in(known: "_Known", credential_id: UUID, expires_at: datetime) -> SignIn:
    if known.ends_at <= timezone.now():
        raise ApiError(ErrorCode.SESSION_ENDED)
    origin().credential_id = credential_id
    return SignIn(
        user=known.user(),
        credential_id=credential_id,
        is_api_key=bool(known.key_sha256),
        expires_at=min(expires_at, known.ends_at),
        permissions=known.permissions,
        denied_routes=known.denied_routes,
        obligations=known.obligations,
    )


def sha256_of(api_key: str) -> str:
    return sha256(api_key.encode(errors="surrogatepass")).hexdigest()


class _Known:
    """What is known of a session or API key, out of the form in which the cache holds it."""

    def __init__(self, known: dict[str, Any]) -> None:
        fields = _converted(known["user"], direction=1)
        self._user_values = [fields[name] for name in _USER_FIELDS]
        self.user_id: UUID = fields["id"]
        self.key_sha256 = str(known["key_sha256"])
        self.ends_at = datetime.fromisoformat(known["ends_at"])
        self.permissions = frozenset(known["permissions"])
        self.denied_routes = dict(known["denied_routes"])
        self.obligations = tuple(ErrorCode(code) for code in known["obligations"])

    def user(self) -> User:
        """Return the user without asking the database; what is not among the fields is fetched when it is needed."""
        return User.from_db("default", _USER_FIELDS, self._user_values)


def _known_from(remembered: Any) -> _Known | None:
    """Return None for what cannot be read: an entry of another release, say, which had other fields."""
    try:
        return _Known(remembered) if remembered is not None else None
    except (AttributeError, LookupError, TypeError, ValueError):
        return None


# Requests of the same person come together, and nobody changes what is in it.
@lru_cache(maxsize=1024)
def _known_from_json(content: bytes) -> _Known | None:
    try:
        return _known_from(json.loads(content))
    except (ValueError, RecursionError):
        return None


def _look_up(credential_id: UUID, api_key: str | None) -> dict[str, Any]:
    """Ask the database about a session or API key, in a form that the cache can hold. Raises ApiError."""
    now = timezone.now()
    session = key = None
    if api_key is None:
        session = DeviceSession.objects.select_related("user").filter(id=credential_id).first()
    if session is None:
        key = ApiKey.objects.select_related("user").filter(id=credential_id).first()
    if api_key is not None and not (key and compare_digest(sha256_of(api_key), key.key_sha256)):
        raise ApiError(ErrorCode.TOKEN_INVALID)  # before it counts as used
    credential = session or key
    good = (session is not None and session.is_open(now)) or (key is not None and key.is_good(now))
    if credential is None or not good or not credential.user.is_active:
        raise ApiError(ErrorCode.SESSION_ENDED)
    _seen(credential, now)
    user = credential.user
    roles = user_roles(user)
    permissions = user_permissions(user, roles)
    if key:
        permissions &= frozenset(key.scopes)
    return {
        "user": _converted({name: getattr(user, name) for name in _USER_FIELDS}, direction=0),
        "key_sha256": key.key_sha256 if key else "",
        "ends_at": credential.expires_at.isoformat(),
        "permissions": sorted(permissions),
        "denied_routes": _denied_routes(user, permissions, roles),
        "obligations": _obligations(user, roles),
    }


def _seen(credential: DeviceSession | ApiKey, now: datetime) -> None:
    where = origin()
    if isinstance(credential, DeviceSession):
        if now - credential.last_seen_at >= LAST_SEEN_STEP:
            DeviceSession.objects.filter(id=credential.id).update(
                last_seen_at=now, address=where.address or credential.address
            )
    elif credential.last_used_at is None or now - credential.last_used_at >= LAST_SEEN_STEP:
        ApiKey.objects.filter(id=credential.id).update(last_used_at=now, last_used_address=where.address)


def _denied_routes(user: User, permissions: frozenset[str], roles: list[Role]) -> dict[str, str]:
    own = {role.pk for role in roles}
    return {
        f"{rule.method} {rule.route}": rule.permission or str(rule.role)
        for rule in RouteRule.objects.select_related("role")
        if not (rule.permission in permissions if rule.permission else user.is_superuser or rule.role_id in own)
    }


def _obligations(user: User, roles: list[Role]) -> list[ErrorCode]:
    obligations = []
    if user.must_change_password:
        obligations.append(ErrorCode.PASSWORD_CHANGE_REQUIRED)
    if settings.EMAIL_VERIFICATION_REQUIRED and user.email_verified_at is None:
        obligations.append(ErrorCode.EMAIL_NOT_VERIFIED)
    if any(role.requires_second_factor for role in roles) and not has_second_factor(user):
        obligations.append(ErrorCode.SECOND_FACTOR_SETUP_REQUIRED)
    return obligations


def _converted(fields: dict[str, Any], *, direction: int) -> dict[str, Any]:
    converters = {name: both[direction] for name, both in _AS_TEXT.items()}
    return {name: converters[name](value) if name in converters and value else value for name, value in fields.items()}
