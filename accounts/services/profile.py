"""What users change about themselves."""

from collections.abc import Callable
from typing import Any

from django.utils import timezone
from rest_framework.exceptions import ValidationError

from accounts import audit
from accounts.audit import Action
from accounts.limits import WINDOW, client_limit
from accounts.models import Mail, User
from accounts.models.mail import MailKind
from accounts.services.mail import mail_send
from accounts.services.names import name_taken_record, taken_names_refused
from accounts.services.proofs import own_account_lock, password_confirm
from gateway.api.errors import ApiError, ErrorCode

ADDRESSES_PER_HOUR = 5
TAKEN_PER_HOUR = 20


def profile_change(
    *, user: User, changes: dict[str, Any], precondition: Callable[[], None], current_password: str = ""
) -> None:
    """Change what users may change about themselves: names, language, and with the password the address.

    A new address is not verified: a token goes to it, and word of it to the old one. `precondition` is called when
    nobody else can change the user any more, and may raise.

    Raises ValidationError: a wrong password, an address that is taken; ApiError (too_many_attempts).
    """
    if "email" in changes:
        password_confirm(user=user, password=current_password, field="current_password")
        if changes["email"] != user.email:
            _email_change_limit(user)
    try:
        with taken_names_refused(email=changes.get("email")):
            locked = own_account_lock(user, confirmed_in="current_password" if "email" in changes else "")
            precondition()
            _change(locked, changes)
    except ValidationError as error:
        if "email" in error.get_full_details():
            name_taken_record(actor=user, email=changes["email"])
        raise


def email_changed(*, user: User, old: str) -> None:
    """See to what a new address entails: it is not verified, a token goes to it, and word of it to the old one.

    To be called in the transaction of the change, before the user is saved with `email` and `email_verified_at`.
    """
    user.email_verified_at = None
    mail_send(MailKind.VERIFY_EMAIL, user=user)
    mail_send(MailKind.EMAIL_CHANGED, user=user, address=old)


def _change(user: User, changes: dict[str, Any]) -> None:
    before = {field: getattr(user, field) for field in changes}
    changed = audit.changes_between(before, changes)
    if not changed:
        return
    for field in changed:
        setattr(user, field, changes[field])
    if "email" in changed:
        email_changed(user=user, old=before["email"])
    user.save(update_fields=[*changed, "email_verified_at"])
    audit.record(Action.USER_CHANGED, actor=user, target=user, changes=changed)


def _email_change_limit(user: User) -> None:
    """Raise ApiError (too_many_attempts): the new address may be a stranger's, who must not get a flood of mails."""
    client_limit(Action.NAME_TAKEN, limit=TAKEN_PER_HOUR)
    recent = Mail.objects.filter(user=user, kind=MailKind.EMAIL_CHANGED, created_at__gt=timezone.now() - WINDOW)
    if recent.count() >= ADDRESSES_PER_HOUR:
        raise ApiError(ErrorCode.TOO_MANY_ATTEMPTS, retry_after=int(WINDOW.total_seconds()))
