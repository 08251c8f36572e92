"""Passwords: set, changed, forgotten. Who knew only the old one is out at once.

API keys stay good, but in one case (password_reset): machines use them, and their owner revokes them one by one.
"""

from collections.abc import Iterable
from uuid import UUID

from django.contrib.auth.hashers import make_password
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError as DjangoValidationError
from django.db import transaction
from django.http import Http404
from django.utils.translation import gettext as _
from rest_framework.exceptions import ErrorDetail, ValidationError
from rest_framework.fields import get_error_detail

from accounts import audit
from accounts.audit import Action
from accounts.limits import client_limit, client_limit_exactly
from accounts.mail_tokens import user_of_reset_token
from accounts.models import ApiKey, DeviceSession, User
from accounts.models.mail import MailKind
from accounts.models.sessions import SessionEnd
from accounts.powers import powers_of
from accounts.services import failed_sign_ins
from accounts.services.api_keys import api_key_revoke
from accounts.services.mail import mail_send, mailed_too_often
from accounts.services.names import email_verified
from accounts.services.proofs import own_account_lock, password_confirm
from accounts.services.sessions import sessions_end

RESETS_PER_HOUR = 20


def password_validate(password: str, *, user: User, field: str) -> None:
    """Raise ValidationError on the field unless all of AUTH_PASSWORD_VALIDATORS are content."""
    try:
        validate_password(password, user)
    except DjangoValidationError as error:
        raise ValidationError({field: get_error_detail(error)}) from None


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

    Raises ApiError (permission_denied) if the user may do something that the actor may not, Http404 if they are gone.
    """
    hashed = make_password(password)  # slow on purpose: before the transaction
    with transaction.atomic():
        locked = User.objects.select_for_update(no_key=True).filter(pk=user.pk).first()
        if locked is None:
            raise Http404
        powers_of(actor).require_over(locked)
        if must_change is not None:
            locked.must_change_password = must_change
        _password_store(
            locked, hashed, actor=actor, keep_session=keep_session, also=["must_change_password"], reason=reason
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
    with transaction.atomic():
        locked = own_account_lock(user, confirmed_in="current")
        locked.must_change_password = False
        _password_store(locked, hashed, actor=user, keep_session=keep_session, also=["must_change_password"])
    user.password = hashed


def password_forgot(*, email: str) -> None:
    """Mail a token to the address, if it is one of a user's: the worker finds out, so this takes the same for all.

    An address that was written to too often gets no more, which nobody is told. Raises ApiError (too_many_attempts) for
    a client that asks for many.
    """
    address = email.lower()  # to count by; the mail goes to it as its user wrote it
    client_limit(Action.PASSWORD_RESET_ASKED, limit=RESETS_PER_HOUR)
    with transaction.atomic():
        client_limit_exactly(Action.PASSWORD_RESET_ASKED, limit=RESETS_PER_HOUR)
        if not mailed_too_often(MailKind.RESET_PASSWORD, address):
            mail = mail_send(MailKind.RESET_PASSWORD, user=None, address=address)
            audit.record(Action.PASSWORD_RESET_ASKED, actor=None, target=mail)


def password_reset(*, token: str, password: str) -> None:
    """Set a new password by a token that was mailed. Ends all sessions, and proves the address.

    API keys stay good, unless the address was not verified: then somebody else may have made the account and the keys.
    A second factor stays in any case: no mail takes its place.

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
            _api_keys_revoke(user)
            email_verified(user=user)
        _password_store(user, hashed, actor=user, also=["must_change_password"])
    failed_sign_ins.forget(user.username)


def _api_keys_revoke(user: User) -> None:
    for key in ApiKey.objects.filter(user=user, revoked_at=None):
        api_key_revoke(actor=user, api_key=key, reason="made before the address was verified")


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
