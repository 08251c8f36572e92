"""Passwords: set, changed, forgotten. Who knew only the old one is out at once.

API keys stay good: machines use them, and their owner revokes them one by one (`DELETE api-keys/{id}`).
"""

from collections.abc import Iterable
from uuid import UUID

from django.contrib.auth.hashers import make_password
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError as DjangoValidationError
from django.db import transaction
from django.utils.translation import gettext as _
from rest_framework.exceptions import ErrorDetail, ValidationError
from rest_framework.fields import get_error_detail

from accounts import audit
from accounts.audit import Action
from accounts.limits import client_limit
from accounts.mail_tokens import user_of_reset_token
from accounts.models import DeviceSession, User
from accounts.models.mail import MailKind
from accounts.models.sessions import SessionEnd
from accounts.powers import powers_of
from accounts.services import failed_sign_ins
from accounts.services.mail import mail_send, mailed_too_often
from accounts.services.names import email_verified
from accounts.services.sessions import sessions_end

RESETS_PER_HOUR = 20


def password_validate(password: str, *, user: User, field: str) -> None:
    """Raise ValidationError on the field unless all of AUTH_PASSWORD_VALIDATORS are content."""
    try:
        validate_password(password, user)
    except DjangoValidationError as error:
        raise ValidationError({field: get_error_detail(error)}) from None


def password_confirm(*, user: User, password: str, field: str) -> None:
    """Make sure that it is the user who is there, and not somebody at an open screen.

    Raises ValidationError on the field; ApiError (too_many_attempts): guessing here is like guessing at the sign-in.
    """
    attempt = failed_sign_ins.check(user.username)
    if not user.check_password(password):
        failed_sign_ins.failed(attempt)
        raise ValidationError({field: [ErrorDetail(_("This is not your password."), code="invalid")]})
    failed_sign_ins.succeeded(attempt)


def password_set(
    *,
    actor: User | None,
    user: User,
    password: str,
    must_change: bool | None = None,
    keep_session: UUID | None = None,
    reason: str = "",
) -> None:
    """Give the user another password and end their sessions, but the one to keep; tell them by mail.

    `must_change` says whether they have to choose their own at the next sign-in; None leaves that as it is. The
    password is taken as it is: see password_validate. API keys stay good.

    Raises ApiError (permission_denied) if the user may do something that the actor may not.
    """
    hashed = make_password(password)  # slow on purpose: before the transaction
    with transaction.atomic():
        powers_of(actor).require_over(user)
        if must_change is not None:
            user.must_change_password = must_change
        _password_store(
            user, hashed, actor=actor, keep_session=keep_session, also=["must_change_password"], reason=reason
        )


def password_change(*, user: User, current: str, new: str, keep_session: UUID | None) -> None:
    """Let a user choose another password, which ends all other sessions. API keys stay good.

    Raises ValidationError: `current` is wrong, `new` is the same or too weak; ApiError (too_many_attempts).
    """
    password_confirm(user=user, password=current, field="current")
    if new == current:
        raise ValidationError({"new": [ErrorDetail(_("This is your present password."), code="unchanged")]})
    password_validate(new, user=user, field="new")
    hashed = make_password(new)
    user.must_change_password = False
    with transaction.atomic():
        _password_store(user, hashed, actor=user, keep_session=keep_session, also=["must_change_password"])


def password_forgot(*, email: str) -> None:
    """Mail a token to the address, if it is one of a user's: the worker finds out, so this takes the same for all.

    An address that was written to too often gets no more, which nobody is told. Raises ApiError (too_many_attempts) for
    a client that asks for many.
    """
    client_limit(Action.PASSWORD_RESET_ASKED, limit=RESETS_PER_HOUR)
    address = email.lower()  # to count by; the mail goes to it as its user wrote it
    if not mailed_too_often(MailKind.RESET_PASSWORD, address):
        with transaction.atomic():
            mail = mail_send(MailKind.RESET_PASSWORD, user=None, address=address)
            audit.record(Action.PASSWORD_RESET_ASKED, actor=None, target=mail)


def password_reset(*, token: str, password: str) -> None:
    """Set a new password by a token that was mailed. Ends all sessions, and proves the address. API keys stay good.

    Raises ValidationError: the token is not good, whatever the cause; the password is too weak.
    """
    owner = user_of_reset_token(token)
    if owner is None:
        raise _invalid_token()
    password_validate(password, user=owner, field="password")
    hashed = make_password(password)
    with transaction.atomic():
        user = user_of_reset_token(token, lock=True)  # two at once with one token: the second comes too late
        if user is None:
            raise _invalid_token()
        user.must_change_password = False
        if user.email_verified_at is None:
            email_verified(user=user)
        _password_store(user, hashed, actor=user, also=["must_change_password"])
    failed_sign_ins.forget(user.username)


def _password_store(
    user: User,
    hashed: str,
    *,
    actor: User | None,
    keep_session: UUID | None = None,
    also: Iterable[str] = (),
    reason: str = "",
) -> None:
    user.password = hashed
    user.save(update_fields=["password", *also])
    sessions = DeviceSession.objects.filter(user=user)
    others = sessions.exclude(id=keep_session) if keep_session else sessions
    sessions_end(sessions=others, actor=actor, reason=SessionEnd.PASSWORD)
    must_change = {"must_change_password": (None, True)} if user.must_change_password else {}
    audit.record(Action.PASSWORD_CHANGED, actor=actor, target=user, changes=must_change, reason=reason)
    mail_send(MailKind.PASSWORD_CHANGED, user=user)


def _invalid_token() -> ValidationError:
    return ValidationError({"token": [ErrorDetail(_("The token is not valid any more."), code="invalid")]})
