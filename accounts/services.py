from uuid import UUID

from django.contrib.auth import authenticate
from django.db import transaction
from django.utils import timezone
from rest_framework_simplejwt.settings import api_settings

from accounts.models import DeviceSession, User
from accounts.selectors import user_by_login
from accounts.signals import session_ended
from accounts.tokens import TokenPair, read_refresh_token, tokens_of
from gateway.api.errors import ApiError, ErrorCode
from gateway.ids import new_id


def session_start(*, login: str, password: str, device_name: str = "") -> tuple[DeviceSession, TokenPair]:
    """Sign a person in on a device. Raises ApiError (invalid_credentials), the same for every cause."""
    user = authenticate(username=login, password=password)
    if not isinstance(user, User):
        raise ApiError(ErrorCode.INVALID_CREDENTIALS)
    now = timezone.now()
    with transaction.atomic():
        session = DeviceSession.objects.create(
            user=user,
            device_name=device_name,
            refresh_jti=new_id().hex,
            refreshed_at=now,
            expires_at=now + api_settings.REFRESH_TOKEN_LIFETIME,
        )
        User.objects.filter(id=user.id).update(last_login=now)
    return session, tokens_of(session)


def session_refresh(*, refresh: str) -> TokenPair:
    """Exchange a refresh token for the next pair.

    The token before the current one gives the same pair for DeviceSession.REUSE_GRACE, so that two tabs or a lost
    answer sign nobody out; after that it ends the session (RFC 9700, 4.14.2: refresh token rotation).

    Raises ApiError: token_invalid, token_expired, session_ended, token_reused.
    """
    claims = read_refresh_token(refresh)
    now = timezone.now()
    with transaction.atomic():
        session = (
            DeviceSession.objects.select_for_update(of=("self",))
            .select_related("user")
            .filter(id=claims.session_id)
            .first()
        )
        if session is None or not session.is_open(now) or not session.user.is_active:
            raise ApiError(ErrorCode.SESSION_ENDED)
        if claims.jti == session.refresh_jti:
            session.previous_refresh_jti, session.refresh_jti = session.refresh_jti, new_id().hex
            session.refreshed_at, session.expires_at = now, now + api_settings.REFRESH_TOKEN_LIFETIME
            session.save(update_fields=["refresh_jti", "previous_refresh_jti", "refreshed_at", "expires_at"])
            reused = False
        else:
            in_grace = now - session.refreshed_at <= DeviceSession.REUSE_GRACE
            reused = not (claims.jti == session.previous_refresh_jti and in_grace)
    if reused:
        session_end(session_id=session.id)
        raise ApiError(ErrorCode.TOKEN_REUSED)
    return tokens_of(session)


def session_end(*, session_id: UUID) -> None:
    """End a session: its tokens are worth nothing from now on, and its sockets close. Ending twice is no error."""
    with transaction.atomic():
        DeviceSession.objects.filter(id=session_id, ended_at=None).update(ended_at=timezone.now())
        transaction.on_commit(
            lambda: session_ended.send_robust(sender=DeviceSession, session_id=session_id), robust=True
        )


def sessions_end(*, user_id: UUID) -> None:
    """End all sessions of a user, as when the password has changed."""
    for session_id in DeviceSession.objects.filter(user_id=user_id, ended_at=None).values_list("id", flat=True):
        session_end(session_id=session_id)


def expired_sessions_delete(*, batch: int = 1000) -> int:
    """Delete sessions whose last refresh token has expired, a batch per transaction. Return how many."""
    deleted = 0
    while ids := list(DeviceSession.objects.filter(expires_at__lt=timezone.now()).values_list("id", flat=True)[:batch]):
        deleted += DeviceSession.objects.filter(id__in=ids).delete()[0]
    return deleted


def user_ensure(*, username: str, email: str, password: str, reset: bool, superuser: bool) -> bool:
    """Create the user if there is none of that name; else set the password if `reset`. Return whether it is new."""
    user = user_by_login(username)
    if user is None:
        create = User.objects.create_superuser if superuser else User.objects.create_user
        create(username, email, password)
        return True
    if reset and not user.check_password(password):
        user.set_password(password)
        user.save(update_fields=["password"])
        sessions_end(user_id=user.id)
    return False
