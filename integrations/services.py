"""What people and services say about instances: registered, changed, alive, draining, gone."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from django.conf import settings
from django.db import transaction
from django.http import Http404
from django.utils import timezone
from django.utils.translation import gettext as _
from rest_framework.exceptions import ErrorDetail, ValidationError

from accounts import audit
from accounts.audit import Action
from accounts.models import User
from gateway.api.errors import ApiError, ErrorCode
from integrations.addresses import AddressError, check_reachable_part, normalized
from integrations.clients import breaker
from integrations.clients.dialects import DIALECTS, STANDARD, names_of
from integrations.models import ServiceInstance, ServiceKind, Source

CHANGEABLE = ("version", "weight", "tags", "time_to_live", "is_disabled", "is_draining")


def checked_base_url(base_url: str) -> str:
    """Return the URL in its one form. Asks DNS, so not within a transaction. Raises ValidationError."""
    try:
        url = normalized(base_url)
        check_reachable_part(url)
    except AddressError as error:
        raise ValidationError({"base_url": [ErrorDetail(str(error), code="invalid")]}) from None
    return url


def checked_dialect(kind: str, dialect: str) -> str:
    """Return the dialect. Raises ValidationError if there is none of that name, or its shared folder is not set up."""
    client = DIALECTS.get((ServiceKind(kind), dialect))
    if client is None:
        names = ", ".join(names_of(ServiceKind(kind)))
        sentence, code = _("There are these: %(names)s.") % {"names": names}, "invalid_choice"
    elif client.needs_shared_folder and not settings.SERVICE_SHARED_DIRS[kind]:
        sentence, code = _("It needs a shared folder, which the settings do not name."), "not_set_up"
    else:
        return dialect
    raise ValidationError({"dialect": [ErrorDetail(sentence, code=code)]})


@dataclass(frozen=True)
class Described:
    """What is said of an instance that is registered."""

    dialect: str = STANDARD
    version: str = ""
    weight: int = 1
    tags: list[str] = field(default_factory=list)
    time_to_live: int | None = None


def instance_register(
    *, actor: User, kind: str, base_url: str, described: Described, source: Source = Source.API
) -> tuple[ServiceInstance, bool]:
    """Write an instance down that was registered, or bring up to date what it said before. Return whether it is new.

    `base_url` and the dialect are such as checked_base_url and checked_dialect returned. An instance of the settings
    stays one, and learns what it says.

    Raises ApiError (service_exists) if another user registered it.
    """
    said = asdict(described)
    now = timezone.now() if described.time_to_live is not None else None
    with transaction.atomic():
        new = {"source": source, "registered_by": actor, "heartbeat_at": now, **said}
        row, is_new = ServiceInstance.objects.get_or_create(kind=kind, base_url=base_url, defaults=new)
        if is_new:
            audit.record(Action.SERVICE_REGISTERED, actor=actor, target=row, changes={"base_url": (None, base_url)})
            return row, True
        row = ServiceInstance.objects.select_for_update().get(pk=row.pk)
        if row.registered_by_id not in (None, actor.pk):
            raise ApiError(ErrorCode.SERVICE_EXISTS)
        if not row.is_registered:  # the settings have the last word
            said["dialect"], said["time_to_live"], now = row.dialect, None, None
        before = {name: getattr(row, name) for name in said}
        for name, value in said.items():
            setattr(row, name, value)
        row.registered_by, row.heartbeat_at, row.is_draining = actor, now, False
        row.save(update_fields=[*said, "registered_by", "heartbeat_at", "is_draining"])
        changes = audit.changes_between(before, said)
        if changes:
            audit.record(Action.SERVICE_CHANGED, actor=actor, target=row, changes=changes)
    return row, False


def instance_change(
    *,
    actor: User,
    instance: ServiceInstance,
    changes: Mapping[str, Any],
    reason: str = "",
    precondition: Callable[[], None] | None = None,
) -> ServiceInstance:
    """Change what CHANGEABLE names. Raises Http404 if it is gone."""
    with transaction.atomic():
        row = ServiceInstance.objects.select_for_update().filter(pk=instance.pk).first()
        if row is None:
            raise Http404
        if precondition:
            precondition()
        before = {name: getattr(row, name) for name in changes}
        changed = audit.changes_between(before, changes)
        for name in changed:
            setattr(row, name, changes[name])
        if changed:
            row.save(update_fields=list(changed))
            audit.record(Action.SERVICE_CHANGED, actor=actor, target=row, changes=changed, reason=reason)
    return row


def instance_heartbeat(*, instance: ServiceInstance) -> None:
    """It is alive. Whoever was gone comes back. Raises Http404 if it was deregistered."""
    if not ServiceInstance.objects.filter(pk=instance.pk).update(heartbeat_at=timezone.now()):
        raise Http404


def instance_delete(*, actor: User, instance: ServiceInstance, reason: str = "") -> None:
    """Take an instance out. Commands that it works on wait until it, or another, is there again.

    Raises ApiError (service_of_settings): those come back by themselves, and can be disabled.
    """
    with transaction.atomic():
        row = ServiceInstance.objects.select_for_update().filter(pk=instance.pk).first()
        if row is None:
            raise Http404
        if not row.is_registered:
            raise ApiError(ErrorCode.SERVICE_OF_SETTINGS)
        audit.record(Action.SERVICE_DEREGISTERED, actor=actor, target=row, reason=reason)
        row.delete()


def breaker_reset(*, actor: User, instance: ServiceInstance, reason: str) -> None:
    """Let an instance be called again at once, though it timed out several times.

    Raises ApiError (service_unavailable) without Redis: the other processes would not hear of it.
    """
    if not breaker.reset(instance.base_url):
        raise ApiError(ErrorCode.SERVICE_UNAVAILABLE, _("Redis is away, so the breakers cannot be reset for all."))
    audit.record(Action.BREAKER_RESET, actor=actor, target=instance, reason=reason)
