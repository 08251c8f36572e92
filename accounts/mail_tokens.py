"""The tokens that mails carry. They are made when a mail is sent, and stored nowhere: a signature makes them good."""

from uuid import UUID

from django.conf import settings
from django.contrib.auth.tokens import default_token_generator
from django.core import signing

from accounts.models import User

_VERIFICATION_SALT = "accounts.mail_tokens.verification"


def reset_token(user: User) -> str:
    """Return a token to set a new password with; good for PASSWORD_RESET_TIMEOUT seconds, and once.

    It is worth nothing any more after the next change of the password or the address, and after the next sign-in.
    """
    return f"{user.pk.hex}.{default_token_generator.make_token(user)}"


def user_of_reset_token(token: str, *, lock: bool = False) -> User | None:
    """Return whose password may be set with this token, None if it is good for nothing, whatever the cause."""
    user_id, _dot, signature = token.partition(".")
    user = _user(user_id, lock=lock)
    if user is None or not user.has_usable_password() or not default_token_generator.check_token(user, signature):
        return None
    return user


def verification_token(user: User) -> str:
    """Return a token that proves who reads the mail of the user's address; good for EMAIL_VERIFICATION_TIMEOUT."""
    return signing.dumps([user.pk.hex, user.email], salt=_VERIFICATION_SALT)


def user_of_verification_token(token: str, *, lock: bool = False) -> User | None:
    """Return whose address is verified by this token, None if it is good for nothing, whatever the cause."""
    try:
        user_id, email = signing.loads(token, salt=_VERIFICATION_SALT, max_age=settings.EMAIL_VERIFICATION_TIMEOUT)
    except signing.BadSignature:
        return None
    user = _user(user_id, lock=lock)
    return user if user is not None and user.email == email and user.email_verified_at is None else None


def _user(user_id: str, *, lock: bool) -> User | None:
    try:
        users = User.objects.filter(pk=UUID(user_id), is_active=True)
    except ValueError:
        return None
    return (users.select_for_update(no_key=True) if lock else users).first()
