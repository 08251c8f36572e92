"""What users do to their own account: the password is asked for again, and an old one is good for nothing."""

from uuid import UUID

from django.utils import timezone
from django.utils.translation import gettext as _
from rest_framework.exceptions import ErrorDetail, ValidationError

from accounts.models import DeviceSession, User
from accounts.services import failed_sign_ins
from gateway.api.errors import ApiError, ErrorCode
from gateway.origin import origin


def password_confirm(*, user: User, password: str, field: str) -> None:
    """Make sure that it is the user who is there, and not somebody at an open screen.

    Raises ValidationError on the field; ApiError (too_many_attempts): guessing here is like guessing at the sign-in.
    """
    attempt = failed_sign_ins.check(user.username)
    if not user.check_password(password):
        failed_sign_ins.failed(attempt)
        raise _wrong_password(field)
    failed_sign_ins.succeeded(attempt)


def own_account_lock(user: User, *, confirmed_in: str = "") -> User:
    """Return the user's row as it is now, locked for a change of their own account. Call it in its transaction.

    The session is locked too. So what was under way with an old password, or in a session that has ended meanwhile,
    changes nothing: whoever changes a password or ends a session locks the same rows. `confirmed_in` is the field in
    which `password_confirm` has seen the password.

    Raises ValidationError on that field, ApiError (session_ended).
    """
    locked = User.objects.select_for_update(no_key=True).filter(pk=user.pk, is_active=True).first()
    session_id = origin().credential_id
    if locked is None or (session_id is not None and not _is_open(user, session_id)):
        raise ApiError(ErrorCode.SESSION_ENDED)
    if confirmed_in and locked.password != user.password:
        raise _wrong_password(confirmed_in)
    return locked


def _is_open(user: User, session_id: UUID) -> bool:
    sessions = DeviceSession.objects.select_for_update(no_key=True).filter(
        id=session_id, user=user, ended_at=None, expires_at__gt=timezone.now()
    )
    return sessions.first() is not None


def _wrong_password(field: str) -> ValidationError:
    return ValidationError({field: [ErrorDetail(_("This is not your password."), code="invalid")]})
