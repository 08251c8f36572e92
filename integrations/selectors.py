from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.core.cache import cache
from django.db.models import QuerySet
from django.http import Http404
from django.utils import timezone

from accounts.sign_in import SignIn
from gateway.api.errors import ApiError, ErrorCode
from integrations.health import NO_ANSWER, SAYS
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


def recent_checks(instances: Iterable[ServiceInstance]) -> dict[UUID, list[ServiceCheck]]:
    """Return the checks of the last quarter of an hour of each, the latest first."""
    found: dict[UUID, list[ServiceCheck]] = {each.id: [] for each in instances}
    since = timezone.now() - RECENT
    for check in ServiceCheck.objects.filter(instance__in=found, at__gt=since).order_by("-id"):
        found[check.instance_id].append(check)
    return found


def latency_of(checks: Iterable[ServiceCheck]) -> Latency:
    return _latency(check.latency_ms for check in checks if check.ok and check.latency_ms is not None)


def _latency(milliseconds: Iterable[int]) -> Latency:
    values = sorted(milliseconds)
    return Latency(percentile(values, 50), percentile(values, 95))


def health_of_kind(kind: ServiceKind) -> dict[str, Any]:
    """Return how a service is as a whole, and each instance: for strangers, so without addresses, or words of theirs.

    As it was HEALTH_KEPT_SECONDS ago at most: anybody may ask, and it takes a while where there are many instances.
    """
    found: dict[str, Any] | None = cache.get(f"service-health:{kind}")
    if found is None:
        found = _health_of_kind(kind)
        cache.set(f"service-health:{kind}", found, timeout=HEALTH_KEPT_SECONDS)
    return found


def _health_of_kind(kind: ServiceKind) -> dict[str, Any]:
    rows = [row for row in instance_list(kind=kind).order_by("id") if not row.has_gone()]
    latencies = _latencies(rows)
    healthy = sum(row.state == "healthy" for row in rows)
    status = "ok" if healthy and healthy == len(rows) else "degraded" if healthy else "unavailable"
    return {
        "status": status,
        "healthy": healthy,
        "total": len(rows),
        "instances": [_public(row, latencies[row.id]) for row in rows],
    }


def _latencies(rows: list[ServiceInstance]) -> dict[UUID, Latency]:
    """Return the same as latency_of(recent_checks()) of each, for less: strangers ask for it."""
    found: dict[UUID, list[int]] = {row.id: [] for row in rows}
    since = timezone.now() - RECENT
    checks = ServiceCheck.objects.filter(instance__in=found, at__gt=since, ok=True, latency_ms__isnull=False)
    for instance_id, latency_ms in checks.order_by().values_list("instance_id", "latency_ms"):
        found[instance_id].append(latency_ms or 0)
    return {instance_id: _latency(values) for instance_id, values in found.items()}


def _public(row: ServiceInstance, latency: Latency) -> dict[str, Any]:
    return {
        "id": str(row.id),
        "state": row.state,
        "since": row.since,
        "reason": _public_reason(row),
        "latency_ms": {"p50": latency.p50_ms, "p95": latency.p95_ms},
    }


def _public_reason(row: ServiceInstance) -> str:
    """Return why it is unhealthy, as one of a few words; empty if it is not."""
    if row.state != ServiceState.UNHEALTHY:
        return ""
    if row.is_healthy is None:
        return "not_checked"
    if row.health_reason == NO_ANSWER:
        return "no_answer"
    return "says_so" if row.health_reason.startswith(SAYS) else "calls_fail"


def percentile(values: list[int], percent: int) -> int | None:
    return values[min(len(values) * percent // 100, len(values) - 1)] if values else None
