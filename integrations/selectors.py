import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.core.serializers.json import DjangoJSONEncoder
from django.db.models import F, Q, QuerySet, Window
from django.db.models.functions import RowNumber
from django.http import Http404
from django.utils import timezone

from accounts.sign_in import SignIn
from gateway.api.errors import ApiError, ErrorCode
from integrations import fleet
from integrations.models import ServiceCheck, ServiceInstance, ServiceKind, ServiceState

CHANGE_ANY = "integrations.change_serviceinstance"
LAST_CHECKS = 5
HEALTH_KEPT_SECONDS = 3
RECENT = timedelta(minutes=15)


@dataclass(frozen=True)
class Latency:
    """How long an instance took to answer checks lately, in milliseconds."""

    p50_ms: int | None
    p95_ms: int | None


def instance_list(*, kind: str | None = None) -> QuerySet[ServiceInstance]:
    """Return those that have not left."""
    rows = ServiceInstance.objects.filter(left_at=None)
    return rows.filter(kind=kind) if kind else rows


def instances_named(kinds: Iterable[str], base_urls: Iterable[str], *, also_others: bool) -> list[ServiceInstance]:
    """Return the instances of these kinds at these addresses; with `also_others` all others that have not left, too."""
    wanted = Q(base_url__in=set(base_urls))
    return list(
        ServiceInstance.objects.filter(wanted | Q(left_at=None) if also_others else wanted, kind__in=set(kinds))
    )


def instance_get(instance_id: UUID) -> ServiceInstance:
    """Raises Http404, also if it has left."""
    row = ServiceInstance.objects.filter(id=instance_id, left_at=None).first()
    if row is None:
        raise Http404
    return row


def own_instance_get(sign_in: SignIn, instance_id: UUID) -> ServiceInstance:
    """Return an instance that one may steer: one's own, or any for administrators.

    Raises Http404, ApiError (permission_denied).
    """
    row = instance_get(instance_id)
    if row.registered_by_id != sign_in.user.pk and not sign_in.allows(CHANGE_ANY):
        raise ApiError(ErrorCode.PERMISSION_DENIED, permission=CHANGE_ANY)
    return row


def check_list(instance: ServiceInstance) -> QuerySet[ServiceCheck]:
    return ServiceCheck.objects.filter(instance=instance)


def last_checks(instances: Iterable[ServiceInstance]) -> dict[UUID, list[ServiceCheck]]:
    """Return the LAST_CHECKS of each within the last quarter of an hour, the latest first."""
    found: dict[UUID, list[ServiceCheck]] = {each.id: [] for each in instances}
    number = Window(RowNumber(), partition_by="instance_id", order_by=F("id").desc())
    checks = ServiceCheck.objects.filter(instance__in=found, at__gt=timezone.now() - RECENT).annotate(number=number)
    for check in checks.filter(number__lte=LAST_CHECKS).order_by("-id"):
        found[check.instance_id].append(check)
    return found


def latencies(instances: Iterable[ServiceInstance]) -> dict[UUID, Latency]:
    """Return how long the checks of the last quarter of an hour of each took, that were good."""
    found: dict[UUID, list[int]] = {each.id: [] for each in instances}
    since = timezone.now() - RECENT
    checks = ServiceCheck.objects.filter(instance__in=found, at__gt=since, ok=True, latency_ms__isnull=False)
    for instance_id, latency_ms in checks.order_by("latency_ms").values_list("instance_id", "latency_ms"):
        found[instance_id].append(latency_ms or 0)
    return {each: Latency(percentile(values, 50), percentile(values, 95)) for each, values in found.items()}


def health_of_kind(kind: ServiceKind) -> dict[str, Any]:
    """Return how a service is as a whole, and each instance: for strangers, so without addresses, or words of theirs.

    As it was HEALTH_KEPT_SECONDS ago at most: anybody may ask, and it takes a while where there are many instances.
    """
    key = f"service-health:{kind}"
    # Not Django's cache: of a Redis that hangs, that would wait for seconds each time.
    kept = fleet.ask(lambda redis: redis.get(key), None)
    if kept is not None:
        remembered: dict[str, Any] = json.loads(kept)
        return remembered
    found = _health_of_kind(kind)
    text = json.dumps(found, cls=DjangoJSONEncoder)
    fleet.ask(lambda redis: redis.set(key, text, ex=HEALTH_KEPT_SECONDS), None)
    return found


def _health_of_kind(kind: ServiceKind) -> dict[str, Any]:
    there = instance_list(kind=kind).filter(is_disabled=False).order_by("id")  # one out of use is no degradation
    rows = [row for row in there if not row.has_gone()]
    found = latencies(rows)
    healthy = sum(row.state is ServiceState.HEALTHY for row in rows)
    status = "ok" if healthy and healthy == len(rows) else "degraded" if healthy else "unavailable"
    return {
        "status": status,
        "healthy": healthy,
        "total": len(rows),
        "instances": [_public(row, found[row.id]) for row in rows],
    }


def _public(row: ServiceInstance, latency: Latency) -> dict[str, Any]:
    return {
        "id": str(row.id),
        "state": row.state,
        "since": row.since,
        "reason": row.public_reason,
        "checked_at": row.checked_at,
        "latency_ms": {"p50": latency.p50_ms, "p95": latency.p95_ms},
    }


def percentile(values: list[int], percent: int) -> int | None:
    return values[min(len(values) * percent // 100, len(values) - 1)] if values else None
