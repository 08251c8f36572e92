"""People make accounts for themselves, and show that their address is theirs."""

from django.conf import settings
from django.contrib.auth.hashers import make_password
from django.db import transaction
from django.utils.translation import gettext as _
from rest_framework.exceptions import ErrorDetail, ValidationError

from accounts import audit
from accounts.audit import Action
from accounts.limits import client_limit, client_limit_exactly
from accounts.mail_tokens import user_of_verification_token
from accounts.models import Role, User
from accounts.models.mail import MailKind
from accounts.services.mail import mail_send, mailed_too_often
from accounts.services.names import email_verified, name_taken_record, taken_names_refused
from accounts.services.passwords import password_validate
from gateway.api.errors import ApiError, ErrorCode

REGISTRATIONS_PER_HOUR = 20
_REGISTRATIONS = (Action.USER_REGISTERED, Action.NAME_TAKEN)


def registration_prepare(*, username: str, email: str, password: str, language: str) -> User:
    """Return the user that somebody asks to be, not stored yet: what takes long is done here, outside a transaction.

    Raises ApiError (registration_closed, too_many_attempts), ValidationError (a password that is too weak).
    """
    if not settings.REGISTRATION_OPEN:
        raise ApiError(ErrorCode.REGISTRATION_CLOSED)
    client_limit(*_REGISTRATIONS, limit=REGISTRATIONS_PER_HOUR)
    user = User(username=username, email=email, language=language)
    password_validate(password, user=user, field="password")
    user.password = make_password(password)
    return user


def user_register(*, user: User) -> User:
    """Store a user who asked for an account (registration_prepare), and mail a token to the address.

    Raises ValidationError: a name or an address that is taken; ApiError: too_many_attempts, which counts refusals of
    taken names too, since these tell who has an account.
    """
    refusal = None
    with transaction.atomic():
        client_limit_exactly(*_REGISTRATIONS, limit=REGISTRATIONS_PER_HOUR)
        try:
            with taken_names_refused(username=user.username, email=user.email):
                user.save(force_insert=True)
                user.groups.add(Role.objects.get(name=Role.OPERATOR))
                audit.record(Action.USER_REGISTERED, actor=user, target=user)
                mail_send(MailKind.VERIFY_EMAIL, user=user)
        except ValidationError as error:
            name_taken_record(actor=None, username=user.username, email=user.email)
            refusal = error
    if refusal is not None:  # only now: the record of it stays
        raise refusal
    return user


def email_verify(*, token: str) -> None:
    """Believe that the address is the user's. Raises ValidationError if the token is not good, whatever the cause."""
    with transaction.atomic():
        user = user_of_verification_token(token, lock=True)
        if user is None:
            raise ValidationError({"token": [ErrorDetail(_("The token is not valid any more."), code="invalid")]})
        email_verified(user=user)


def email_verification_resend(*, user: User) -> None:
    """Mail another token, unless the address is verified or was written to too often. Tells nobody which."""
    with transaction.atomic():
        if user.email_verified_at is None and not mailed_too_often(MailKind.VERIFY_EMAIL, user.email):
            mail_send(MailKind.VERIFY_EMAIL, user=user)
