from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from django.conf import settings
from django.contrib.auth import authenticate
from django.contrib.sessions.models import Session
from django.db import transaction
from django.utils import timezone
from rest_framework_simplejwt.settings import api_settings

from accounts import audit
from accounts.access import credentials_ended
from accounts.audit import Action
from accounts.models import DeviceSession, User
from accounts.models.mail import MailKind
from accounts.models.sessions import SessionEnd
from accounts.services import failed_sign_ins
from accounts.services.codes import code_check
from accounts.services.mail import mail_send
from accounts.tokens import TokenPair, read_refresh_token, tokens_of
from gateway.api.errors import ApiError, ErrorCode
from gateway.batches import delete_in_batches
from gateway.ids import new_id
from gateway.origin import origin

MAX_OPEN_SESSIONS = 1000  # of one user

if TYPE_CHECKING:
    from django.db.models import QuerySet


def session_start(
    *, login: str, password: str, code: str = "", device_name: str = ""
) -> tuple[DeviceSession, TokenPair]:
    """Sign a person in on a device.

    Raises ApiError: invalid_credentials, the same for every cause; second_factor_required, second_factor_invalid once
    the password was right; too_many_attempts.
    """
    user = credentials_check(login=login, password=password, code=code)
    session = session_open(user=user, device_name=device_name, lifetime=api_settings.REFRESH_TOKEN_LIFETIME)
    return session, tokens_of(session)


def session_open(*, user: User, device_name: str, lifetime: timedelta) -> DeviceSession:
    """Begin a session of a user whose credentials were checked.

    Raises ApiError (invalid_credentials) if these are good no more: who changes a password, deactivates or deletes a
    user locks the row first and ends the sessions that there are, so none may begin behind their back.
    """
    now, where = timezone.now(), origin()
    with transaction.atomic():
        unchanged = User.objects.select_for_update(no_key=True).filter(
            pk=user.pk, password=user.password, is_active=True
        )
        if not unchanged.exists():
            raise ApiError(ErrorCode.INVALID_CREDENTIALS)
        session = DeviceSession.objects.create(
            user=user,
            device_name=device_name,
            user_agent=where.user_agent,
            address=where.address,
            refresh_jti=new_id().hex,
            refreshed_at=now,
            last_seen_at=now,
            expires_at=now + min(lifetime, timedelta(days=settings.SESSION_MAX_DAYS)),
        )
        User.objects.filter(id=user.id).update(last_login=now)
        where.credential_id = session.id
        audit.record(Action.SIGNED_IN, actor=user, target=session)
        _oldest_end(user)
    return session


def _oldest_end(user: User) -> None:
    """End what a user has too many of, oldest first: a script that signs in anew each time, and never out."""
    own = DeviceSession.objects.filter(user=user, ended_at=None).order_by("-id")
    surplus = list(own.values_list("id", flat=True)[MAX_OPEN_SESSIONS : MAX_OPEN_SESSIONS + 100])
    if surplus:
        sessions = DeviceSession.objects.filter(id__in=surplus)
        sessions_end(sessions=sessions, actor=None, reason=SessionEnd.TOO_MANY)


def credentials_check(*, login: str, password: str, code: str = "") -> User:
    """Return who this is. The one check for the API and the admin; counts failures. Raises as session_start does."""
    attempt = failed_sign_ins.check(login)
    user = authenticate(username=login, password=password)
    if not isinstance(user, User):
        failed_sign_ins.failed(attempt)
        raise ApiError(ErrorCode.INVALID_CREDENTIALS)
    try:
        code_check(user=user, code=code)
    except ApiError as error:
        if error.error_code == ErrorCode.SECOND_FACTOR_INVALID:
            failed_sign_ins.failed(attempt, error.error_code)
        else:
            failed_sign_ins.withdrawn(attempt)
        raise
    failed_sign_ins.succeeded(attempt)
    return user


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
            .filter(id=claims.session_id, user_id=claims.user_id)
            .first()
        )
        if session is None or not session.is_open(now) or not session.user.is_active:
            raise ApiError(ErrorCode.SESSION_ENDED)
        in_grace = now - session.refreshed_at <= DeviceSession.REUSE_GRACE
        reused = claims.jti != session.refresh_jti and not (claims.jti == session.previous_refresh_jti and in_grace)
        if reused:
            _session_stolen(session)
        elif claims.jti == session.refresh_jti:
            session.previous_refresh_jti, session.refresh_jti = session.refresh_jti, new_id().hex
            session.refreshed_at = session.last_seen_at = now
            session.expires_at = _expires_at(session, now)
            session.save(
                update_fields=["refresh_jti", "previous_refresh_jti", "refreshed_at", "last_seen_at", "expires_at"]
            )
    if reused:
        raise ApiError(ErrorCode.TOKEN_REUSED)
    return tokens_of(session)


def _expires_at(session: DeviceSession, now: datetime) -> datetime:
    """Return when the session is idle for too long, or too old, whichever comes first."""
    oldest = session.created_at + timedelta(days=settings.SESSION_MAX_DAYS)
    idle: datetime = now + api_settings.REFRESH_TOKEN_LIFETIME
    return min(idle, oldest)


def _session_stolen(session: DeviceSession) -> None:
    """Two hold tokens of one session, so one of them stole it: end it and tell its user."""
    audit.record(Action.REFRESH_TOKEN_REUSED, actor=None, target=session)
    session_end(session_id=session.id, actor=None, reason=SessionEnd.REUSE)
    mail_send(MailKind.SESSION_STOLEN, user=session.user, data={"device": session.device_name or session.user_agent})


def session_end(*, session_id: UUID, actor: User | None, reason: SessionEnd) -> None:
    """End a session: its tokens are worth nothing from now on, and its sockets close. Ending twice is no error."""
    sessions_end(sessions=DeviceSession.objects.filter(id=session_id), actor=actor, reason=reason)


def sessions_end(*, sessions: "QuerySet[DeviceSession]", actor: User | None, reason: SessionEnd, why: str = "") -> int:
    """End all of these that are open. Return how many."""
    now = timezone.now()
    with transaction.atomic():
        ending = list(sessions.select_for_update(of=("self",)).select_related("user").filter(ended_at=None))
        DeviceSession.objects.filter(id__in=[session.id for session in ending]).update(ended_at=now, end_reason=reason)
        changes = {"end_reason": ("", str(reason))}
        audit.record_each(Action.SESSION_ENDED, actor=actor, targets=ending, changes=changes, reason=why)
        credentials_ended(session.id for session in ending)
    return len(ending)


def expired_sessions_delete(*, batch: int = 1000) -> int:
    """Delete sessions whose time is over, and those of the admin pages. Return how many.

    Device sessions only when they do not tell any more where their user is known (accounts.services.failed_sign_ins).
    """
    now = timezone.now()
    over = DeviceSession.objects.filter(expires_at__lt=now, last_seen_at__lt=now - failed_sign_ins.KNOWN_FOR)
    return delete_in_batches(over, batch=batch) + delete_in_batches(
        Session.objects.filter(expire_date__lt=now), batch=batch
    )
