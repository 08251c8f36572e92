"""User names and addresses belong to one user each; the database decides, also between requests at the same time."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import IntegrityError, transaction
from django.db.models import Value
from django.db.models.functions import Lower
from django.utils import timezone
from django.utils.translation import gettext as _
from rest_framework.exceptions import ErrorDetail, ValidationError

from accounts import audit
from accounts.audit import Action
from accounts.models import User
from accounts.models.users import without_look_alikes


@contextmanager
def taken_names_refused(*, username: str | None = None, email: str | None = None) -> Iterator[None]:
    """Run the block in a transaction. Raises ValidationError (unique) on the field that another user has already."""
    try:
        with transaction.atomic():
            yield
    except IntegrityError:
        errors = _taken(username, email)
        if not errors:
            raise
        raise ValidationError(errors) from None


def name_taken_record(*, actor: User | None, **asked: str) -> None:
    """Write down that somebody asked for a taken name or address: a way to learn who has an account."""
    audit.record(Action.NAME_TAKEN, actor=actor, changes={field: ("", value) for field, value in asked.items()})


def email_verified(*, user: User) -> None:
    """Write down that the address is the user's. To be called in a transaction."""
    user.email_verified_at = timezone.now()
    user.save(update_fields=["email_verified_at"])
    audit.record(Action.EMAIL_VERIFIED, actor=user, target=user, changes={"email": (None, user.email)})


def _taken(username: str | None, email: str | None) -> dict[str, list[ErrorDetail]]:
    errors = {}
    seen = without_look_alikes
    names = User.objects.alias(seen=seen("username")).filter(seen=seen(Value(username)))
    if username is not None and names.exists():
        errors["username"] = [ErrorDetail(_("This user name is taken."), code="unique")]
    addresses = User.objects.alias(lower=Lower("email")).filter(lower=Lower(Value(email)))
    if email is not None and addresses.exists():
        errors["email"] = [ErrorDetail(_("This address is taken."), code="unique")]
    return errors
