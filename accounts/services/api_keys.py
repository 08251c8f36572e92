import secrets
from base64 import urlsafe_b64encode
from collections.abc import Iterable
from datetime import datetime, timedelta
from uuid import UUID

from django.db import transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.crypto import salted_hmac
from django.utils.translation import gettext as _
from rest_framework import exceptions

from accounts import audit
from accounts.audit import Action
from accounts.models import ApiKey, User
from accounts.models.mail import MailKind
from accounts.permissions import unknown_names
from accounts.powers import powers_of
from accounts.services.mail import mail_send
from accounts.services.proofs import own_account_lock
from accounts.sign_in import API_KEY_START, sha256_of
from gateway.api.errors import ApiError, ErrorCode
from gateway.batches import delete_in_batches
from gateway.ids import new_id

MAX_LIVE_KEYS = 50
LONGEST_LIFE = timedelta(days=366)
KEPT_DEAD = timedelta(days=90)  # in the list, for its user to see what became of it
_PREFIX_LENGTH = 20  # says when the key was made: enough to tell it from others, and no secret


class RawKey:
    """The text of a key to be made: 256 bits that only its holder has.

    They are random. But if the client sent an `Idempotency-Key`, they are derived from it with SECRET_KEY, so that the
    same can be shown again without being kept.
    """

    def __init__(self, idempotency_key: str | None = None) -> None:
        self._seed = idempotency_key
        self._random = secrets.token_bytes(32)

    def of(self, key_id: UUID) -> str:
        secret = self._random if self._seed is None else self._derived(key_id)
        return f"{API_KEY_START}{key_id.hex}_{urlsafe_b64encode(secret).rstrip(b'=').decode()}"

    def _derived(self, key_id: UUID) -> bytes:
        return salted_hmac("accounts.api_keys", f"{key_id.hex} {self._seed}", algorithm="sha256").digest()


def api_key_create(
    *, actor: User, name: str, scopes: Iterable[str], expires_at: datetime, raw_key: RawKey | None = None
) -> tuple[ApiKey, str]:
    """Make an API key of the actor. Return it with its text, of which only a hash is kept.

    Raises ValidationError, which names the fields; ApiError: too_many_api_keys.
    """
    scopes = sorted(set(scopes))
    _check_expiry(expires_at)
    key_id = new_id()
    raw = (raw_key or RawKey()).of(key_id)
    with transaction.atomic():
        own_account_lock(actor)  # so that the keys are counted one at a time, too
        if ApiKey.objects.filter(user=actor, revoked_at=None, expires_at__gt=timezone.now()).count() >= MAX_LIVE_KEYS:
            raise ApiError(ErrorCode.TOO_MANY_API_KEYS)
        _check_scopes(actor, scopes)
        key = ApiKey.objects.create(
            id=key_id,
            user=actor,
            name=name,
            prefix=raw[:_PREFIX_LENGTH],
            key_sha256=sha256_of(raw),
            scopes=scopes,
            expires_at=expires_at,
        )
        changes = {"user": (None, actor.username), "scopes": (None, scopes), "expires_at": (None, str(expires_at))}
        audit.record(Action.API_KEY_CREATED, actor=actor, target=key, changes=changes)
        mail_send(MailKind.API_KEY_CREATED, user=actor, data={"name": name})
    return key, raw


def api_key_revoke(*, actor: User | None, api_key: ApiKey, reason: str = "") -> None:
    """Make a key worth nothing from now on, and close its sockets. Revoking twice is no error."""
    with transaction.atomic():
        key = ApiKey.objects.select_for_update(of=("self",)).select_related("user").filter(id=api_key.id).first()
        if key is None or key.revoked_at is not None:
            return
        key.revoked_at = timezone.now()
        key.save(update_fields=["revoked_at"])  # accounts.access tells
        whose = key.user.username
        changes = {"user": (whose, whose), "revoked_at": (None, str(key.revoked_at))}
        audit.record(Action.API_KEY_REVOKED, actor=actor, target=key, changes=changes, reason=reason)


def dead_api_keys_delete(*, batch: int = 1000) -> int:
    """Delete keys that were revoked or expired long ago; the audit record still knows them. Return how many."""
    before = timezone.now() - KEPT_DEAD
    dead = ApiKey.objects.filter(Q(revoked_at__lt=before) | Q(expires_at__lt=before))
    return delete_in_batches(dead, batch=batch)


def _check_expiry(expires_at: datetime) -> None:
    now = timezone.now()
    if expires_at <= now:
        raise _invalid("expires_at", _("Must be in the future."), "in_the_past")
    if expires_at > now + LONGEST_LIFE:
        message = _("Must be at most %(days)s days from now.") % {"days": LONGEST_LIFE.days}
        raise _invalid("expires_at", message, "too_far")


def _check_scopes(actor: User, scopes: list[str]) -> None:
    unknown = unknown_names(scopes)
    if unknown:
        message = _("There is no permission “%(name)s”.") % {"name": unknown[0]}
        raise _invalid("scopes", message, "does_not_exist")
    lacking = sorted(set(scopes) - powers_of(actor).permissions)
    if lacking:
        message = _("You do not have the permission “%(name)s” yourself.") % {"name": lacking[0]}
        raise _invalid("scopes", message, "not_held")


def _invalid(field: str, message: str, code: str) -> exceptions.ValidationError:
    return exceptions.ValidationError({field: [exceptions.ErrorDetail(message, code=code)]})
