"""What people and services say about instances: registered, changed, alive, draining, gone."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import timedelta
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
from gateway.locks import transaction_lock
from integrations.addresses import AddressError, check_reachable_part, normalized
from integrations.clients import breaker
from integrations.clients.dialects import DIALECTS, STANDARD, names_of
from integrations.events import tell_if_changed
from integrations.models import FROM_SETTINGS, Illness, ServiceInstance, ServiceKind, Source

CHANGEABLE = ("version", "weight", "tags", "time_to_live", "is_disabled", "is_draining")
# What an administrator set of these, no registration changes any more.
_ADMINISTERED = {"weight", "tags", "time_to_live", "is_draining"}
MAX_INSTANCES = 100  # of one user
MAX_KEPT = 1000  # of one user, with those that have left; then the first of them are forgotten
SILENT_KEPT = timedelta(days=1)  # without a heartbeat, before it leaves
LEFT_KEPT = timedelta(days=1)  # and as long as it may still be working on something


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
    *, actor: User, kind: str, base_url: str, described: Described, source: Source = Source.API, reason: str = ""
) -> tuple[ServiceInstance, bool]:
    """Write an instance down that was registered, or bring up to date what it said before. Return whether it is new.

    `base_url` and the dialect are such as checked_base_url and checked_dialect returned. One that had left comes back,
    and counts as new. What an administrator set stays. Of one that the settings name, only the version is heard.

    Raises ApiError: service_exists if it is not theirs, too_many_services if they have too many.
    """
    with transaction.atomic():
        transaction_lock(f"services of {actor.pk}")  # so that they are counted right
        row = _locked_or_new(kind, base_url, source)
        comes = row.left_at is not None
        if not comes and not row.is_registered:
            return instance_change(actor=actor, instance=row, changes={"version": described.version}), False
        if not comes:
            _check_owner(row, actor)
        if comes or row.has_gone():
            row.forget_health()
        changes = _take_in(row, described)
        row.registered_by, row.left_at = actor, None
        row.heartbeat_at = None if row.time_to_live is None else timezone.now()
        if comes:
            row.source = source
        if source == Source.ADMIN:
            row.administered = sorted({*row.administered, "weight", "tags"})
        row.save()
        if comes:
            _check_number(actor)
            changes = {"base_url": (None, base_url), **changes}
        if changes:
            action = Action.SERVICE_REGISTERED if comes else Action.SERVICE_CHANGED
            audit.record(action, actor=actor, target=row, changes=changes, reason=reason)
        tell_if_changed(row)
    return row, comes


def _locked_or_new(kind: str, base_url: str, source: Source) -> ServiceInstance:
    """Return the row of an instance; one that there was none of is like one that has left."""
    while True:
        new = {"source": source, "left_at": timezone.now()}
        row, _is_new = ServiceInstance.objects.get_or_create(kind=kind, base_url=base_url, defaults=new)
        locked = ServiceInstance.objects.select_for_update(no_key=True).filter(pk=row.pk).first()
        if locked is not None:  # else it was deleted for good in between
            return locked


def _check_owner(row: ServiceInstance, actor: User) -> None:
    """Raise ApiError (service_exists) unless it is theirs, or nobody's and without a heartbeat."""
    if row.registered_by_id != actor.pk and not (row.registered_by_id is None and row.has_gone()):
        raise ApiError(ErrorCode.SERVICE_EXISTS)


def _take_in(row: ServiceInstance, described: Described) -> dict[str, tuple[Any, Any]]:
    """Let a row say what was said of it, but for what an administrator set. Return what changed."""
    said = {**asdict(described), "is_draining": False}
    said = {name: value for name, value in said.items() if name not in row.administered}
    changes = audit.changes_between({name: getattr(row, name) for name in said}, said)
    for name in changes:
        setattr(row, name, said[name])
    return changes


def _check_number(actor: User) -> None:
    """Raise ApiError (too_many_services) if a user has too many. Those without a heartbeat make room first.

    Of those that left, the first are forgotten before their time: of some service each new copy has a new address.
    """
    own = ServiceInstance.objects.filter(registered_by=actor)
    there = own.filter(left_at=None)
    if there.count() > MAX_INSTANCES:
        for row in there.select_for_update(no_key=True).order_by("pk"):
            if row.has_gone():
                instance_leaves(row)
    too_many = max(0, own.count() - MAX_KEPT)
    left = own.filter(left_at__isnull=False, is_disabled=False).order_by("left_at")
    for row in left.select_for_update(skip_locked=True)[:too_many]:  # who has one locked lets it come back
        row.delete()
    if there.count() > MAX_INSTANCES or own.count() > MAX_KEPT:
        raise ApiError(ErrorCode.TOO_MANY_SERVICES)


def instance_change(
    *,
    actor: User,
    instance: ServiceInstance,
    changes: Mapping[str, Any],
    reason: str = "",
    by_owner: bool = False,
    precondition: Callable[[], None] | None = None,
) -> ServiceInstance:
    """Change what CHANGEABLE names. A registration may change what the owner did, not what an administrator did.

    Raises Http404 if it is gone.
    """
    with transaction.atomic():
        row = ServiceInstance.objects.select_for_update(no_key=True).filter(pk=instance.pk).first()
        if row is None:
            raise Http404
        if precondition:
            precondition()
        administered = row.administered if by_owner else _administered(row, changes)
        changed = audit.changes_between({name: getattr(row, name) for name in changes}, changes)
        if not changed and administered == row.administered:
            return row
        row.administered = administered
        for name in changed:
            setattr(row, name, changes[name])
        row.save(update_fields=["administered", *changed])
        audit.record(Action.SERVICE_CHANGED, actor=actor, target=row, changes=changed, reason=reason)
        tell_if_changed(row)
    return row


def _administered(row: ServiceInstance, changes: Mapping[str, Any]) -> list[str]:
    names = {*row.administered, *(_ADMINISTERED & changes.keys())}
    if changes.get("is_draining") is False:
        names.discard("is_draining")  # the owner may drain it from now on, and end that
    return sorted(names)


def instance_heartbeat(*, instance: ServiceInstance) -> None:
    """It is alive. Whoever was silent comes back, and is checked anew. Raises Http404 if it has left."""
    if not _beat(pk=instance.pk):
        raise Http404


def instance_heartbeat_of(*, owner: User, instance_id: str) -> bool:
    """The same, from somebody who registers it once more and was answered before: whoever asks again is alive.

    Return whether it is theirs still, and has not left.
    """
    return _beat(pk=instance_id, registered_by=owner, time_to_live__isnull=False)


def _beat(**which: Any) -> bool:
    """Return whether there is such an instance."""
    with transaction.atomic():
        row = ServiceInstance.objects.select_for_update(no_key=True).filter(left_at=None, **which).first()
        if row is None:
            return False
        if row.has_gone():
            row.forget_health()  # it may be another than it was
        row.heartbeat_at = timezone.now()
        row.save()
        tell_if_changed(row)
    return True


def instance_delete(*, actor: User, instance: ServiceInstance, reason: str = "") -> None:
    """Take an instance out: it is asked only after the work that it has. To register anew brings it back.

    Raises Http404 if it has left, ApiError (service_of_settings) for those that would come back by themselves: they
    can be disabled.
    """
    with transaction.atomic():
        row = ServiceInstance.objects.select_for_update(no_key=True).filter(pk=instance.pk, left_at=None).first()
        if row is None:
            raise Http404
        if not row.is_registered:
            raise ApiError(ErrorCode.SERVICE_OF_SETTINGS)
        audit.record(Action.SERVICE_DEREGISTERED, actor=actor, target=row, reason=reason)
        instance_leaves(row)


def instance_forget(*, actor: User, instance: ServiceInstance, reason: str = "") -> None:
    """Delete an instance that has left for good, and that it was disabled. Raises Http404 if it has not left."""
    with transaction.atomic():
        row = ServiceInstance.objects.select_for_update().filter(pk=instance.pk, left_at__isnull=False).first()
        if row is None:
            raise Http404
        audit.record(Action.SERVICE_DEREGISTERED, actor=actor, target=row, reason=reason)
        row.delete()


def instance_leaves(row: ServiceInstance) -> None:
    """Let an instance leave, whose row the caller has locked. How it is will be found out when it comes back."""
    row.left_at = timezone.now()
    row.forget_health()
    row.save()
    tell_if_changed(row)


def silent_instances_leave() -> None:
    """Let those leave that have sent no heartbeat for a day."""
    silent = ServiceInstance.objects.filter(
        left_at=None, time_to_live__isnull=False, heartbeat_at__lt=timezone.now() - SILENT_KEPT
    ).exclude(source__in=FROM_SETTINGS)
    for pk in list(silent.values_list("pk", flat=True)):
        with transaction.atomic():
            row = silent.select_for_update(no_key=True).filter(pk=pk).first()  # unless it sent one meanwhile
            if row is not None:
                instance_leaves(row)


def left_instances_delete() -> None:
    """Delete those for good that left long ago. What an administrator disabled stays, to stay disabled."""
    long_ago = timezone.now() - LEFT_KEPT - timedelta(seconds=settings.STAGE_TIME_LIMIT)
    left = ServiceInstance.objects.filter(left_at__lt=long_ago, is_disabled=False)
    for pk in list(left.values_list("pk", flat=True)):
        with transaction.atomic():
            # The lock keeps a check from being written down between the deletion of the others and of the row.
            row = left.select_for_update().filter(pk=pk).first()
            if row is not None:
                row.delete()


def breaker_reset(*, actor: User, instance: ServiceInstance, reason: str) -> None:
    """Let an instance be called again at once, though calls failed several times.

    Raises ApiError (service_unavailable) without Redis: the other processes would not hear of it.
    """
    with transaction.atomic():
        # First, so that what cannot be written down is not done.
        audit.record(Action.BREAKER_RESET, actor=actor, target=instance, reason=reason)
        row = ServiceInstance.objects.select_for_update(no_key=True).filter(pk=instance.pk).first()
        if row is not None and row.illness == Illness.CALLS_FAIL:
            row.forget_health()  # else it would get nothing before two more checks
            row.save()
            tell_if_changed(row)
        if not breaker.reset(instance.base_url):
            raise ApiError(ErrorCode.SERVICE_UNAVAILABLE, _("Redis is away, so the breakers cannot be reset for all."))
