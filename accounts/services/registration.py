"""People make accounts for themselves, and show that their address is theirs."""

from django.conf import settings
from django.contrib.auth.hashers import make_password
from django.db import transaction
from django.utils.translation import gettext as _
from rest_framework.exceptions import ErrorDetail, ValidationError

from accounts import audit
from accounts.audit import Action
from accounts.limits import client_limited
from accounts.mail_tokens import user_of_verification_token
from accounts.models import Role, User
from accounts.models.mail import MailKind
from accounts.services.mail import mail_send, mailed_too_often
from accounts.services.names import email_verified, name_taken_record, taken_names_refused
from accounts.services.passwords import password_validate
from gateway.api.errors import ApiError, ErrorCode

REGISTRATIONS_PER_HOUR = 20


def user_register(*, username: str, email: str, password: str, language: str) -> User:
    """Make an account for whoever asks, and mail a token to its address.

    Raises ApiError: registration_closed; too_many_attempts, which counts refusals of taken names too, since these tell
    who has an account. Raises ValidationError: a password that is too weak, a name or an address that is taken.
    """
    if not settings.REGISTRATION_OPEN:
        raise ApiError(ErrorCode.REGISTRATION_CLOSED)
    with client_limited(Action.USER_REGISTERED, Action.NAME_TAKEN, limit=REGISTRATIONS_PER_HOUR):
        user = User(username=username, email=email, language=language)
        password_validate(password, user=user, field="password")
        user.password = make_password(password)
        try:
            with taken_names_refused(username=username, email=email):
                user.save(force_insert=True)
                user.groups.add(Role.objects.get(name=Role.OPERATOR))
                audit.record(Action.USER_REGISTERED, actor=user, target=user)
                mail_send(MailKind.VERIFY_EMAIL, user=user)
        except ValidationError:
            name_taken_record(actor=None, username=username, email=email)
            raise
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
    if user.email_verified_at is None and not mailed_too_often(MailKind.VERIFY_EMAIL, user.email):
        with transaction.atomic():
            mail_send(MailKind.VERIFY_EMAIL, user=user)
