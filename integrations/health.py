"""How the instances are: asked regularly by a worker, and learnt from calls that fail.

One look says little. An instance falls ill after FALL failures in a row, and is well again after RISE successes. One
whose breaker opened lately is ill, whatever its check says: it may hang in all but that.
"""

import logging
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.core.cache import cache
from django.db import transaction
from django.db.models import F
from django.utils import timezone

from gateway.batches import delete_in_batches
from gateway.health import NotReadyError, readiness_check
from integrations.clients.breaker import failing
from integrations.clients.dialects import client_for
from integrations.clients.http import get_health, printable
from integrations.events import tell_if_changed
from integrations.models import Illness, ServiceCheck, ServiceInstance, ServiceKind, ServiceState
from integrations.registry import Instance, instance_of, settings_instances

logger = logging.getLogger(__name__)

FALL, RISE = 2, 2
JITTER_SECONDS = 0.5  # so that instances are not all asked at the same moment
ROUND_SECONDS = 20.0  # in which a round begins looks; those it did not get to are first in the next
CHECKS_KEPT = timedelta(days=1)
SUMMARY_KEPT_SECONDS = 30
NO_ANSWER = "does not answer the health check with 200 in time"
CALLS_FAIL = "calls time out or fail, though the health check is good"
_HEALTHY_WORDS = {"ok", "up", "healthy"}
_WORKERS = 16


@dataclass(frozen=True)
class Look:
    ok: bool
    reason: str
    latency_ms: int | None
    illness: Illness = Illness.SAYS_SO  # if it is not ok
    calls_fail: bool = False  # whatever the check says


def check_instances() -> None:
    """Ask every instance that is there and not disabled, side by side, and write down what they say."""
    known = ServiceInstance.objects.filter(left_at=None).order_by(F("checked_at").asc(nulls_first=True))
    rows = [row for row in known if not row.is_disabled and not row.has_gone()]
    until = time.monotonic() + ROUND_SECONDS
    with ThreadPoolExecutor(max_workers=min(len(rows), _WORKERS) or 1, thread_name_prefix="health") as executor:
        looks = list(executor.map(lambda row: _look_soon(row, until), rows))
    ill_in_calls = failing(row.base_url for row in rows)
    for row, look in zip(rows, looks, strict=True):
        if look is not None:
            _guarded(checked, row.id, replace(look, calls_fail=row.base_url in ill_in_calls))
    for row in known:
        if row.state != row.told_state:
            _guarded(_tell, row.id)
    for kind in ServiceKind:
        remember_summary(kind)


def _guarded(act: Callable[..., None], *arguments: Any) -> None:
    """Do something for one instance; what goes wrong with it is no reason to leave out the others."""
    try:
        act(*arguments)
    except Exception:
        logger.exception("%s failed for an instance: %s", act.__name__, arguments)


def _tell(instance_id: UUID) -> None:
    """Tell of what no write changed: a heartbeat is overdue, or came again."""
    with transaction.atomic():
        row = _locked(instance_id)
        if row is not None:
            tell_if_changed(row)


def checked(instance_id: UUID, look: Look) -> None:
    """Write a check down, and let the instance fall ill or be well again if it was one too many.

    While its calls fail, a good check makes nothing well.
    """
    with transaction.atomic():
        row = _locked(instance_id)
        if row is None:
            return  # it left meanwhile
        ServiceCheck.objects.create(instance=row, ok=look.ok, reason=look.reason, latency_ms=look.latency_ms)
        row.checked_at = timezone.now()
        reason, illness = look.reason, look.illness
        if look.ok and look.calls_fail:
            reason, illness = CALLS_FAIL, Illness.CALLS_FAIL
            row.failures_in_row = FALL  # there were that many, or its breaker would not have opened
        ok = look.ok and not look.calls_fail
        if not ok and row.is_healthy is False:  # a check knows what is wrong now; a call knows less
            row.health_reason, row.illness = reason[:200], str(illness)
        _count(row, ok=ok, reason=reason, illness=illness)


def call_failed(kind: ServiceKind, base_url: str, reason: str) -> None:
    """A call of the pipeline found an instance unreachable: that counts like a check that failed."""
    with transaction.atomic():
        there = ServiceInstance.objects.filter(left_at=None, kind=kind, base_url=base_url)
        row = there.select_for_update(no_key=True).first()
        if row is not None:
            _count(row, ok=False, reason=reason, illness=Illness.CALLS_FAIL)


def remember_summary(kind: ServiceKind) -> None:
    """Keep whether any of this kind is well and takes work: the readiness check must not wait for a database.

    One whose check is good though its calls fail will do: they may fail because of what was asked, and who keeps
    clients away because of it keeps away the calls that would find out.
    """
    there = ServiceInstance.objects.filter(kind=kind, left_at=None)
    healthy = any(row.state is ServiceState.HEALTHY or _only_calls_fail(row) for row in there)
    cache.set(_summary_key(kind), healthy, timeout=SUMMARY_KEPT_SECONDS)


def _only_calls_fail(row: ServiceInstance) -> bool:
    return row.takes_work and row.illness == Illness.CALLS_FAIL and not row.is_overlooked()


def old_checks_delete(*, batch: int = 1000) -> int:
    """Delete checks that are older than a day. Return how many."""
    return delete_in_batches(ServiceCheck.objects.filter(at__lt=timezone.now() - CHECKS_KEPT), batch=batch)


def _locked(instance_id: UUID) -> ServiceInstance | None:
    return ServiceInstance.objects.select_for_update(no_key=True).filter(id=instance_id, left_at=None).first()


def _count(row: ServiceInstance, *, ok: bool, reason: str, illness: Illness) -> None:
    row.successes_in_row = row.successes_in_row + 1 if ok else 0
    row.failures_in_row = 0 if ok else row.failures_in_row + 1
    first = row.is_healthy is None
    if ok and not row.is_healthy and (first or row.successes_in_row >= RISE):
        row.is_healthy, row.health_since, row.health_reason, row.illness = True, timezone.now(), "", ""
    elif not ok and row.is_healthy is not False and (first or row.failures_in_row >= FALL):
        row.is_healthy, row.health_since, row.health_reason = False, timezone.now(), reason[:200]
        row.illness = str(illness)
    row.save(
        update_fields=[
            *("is_healthy", "health_since", "health_reason", "illness"),
            *("successes_in_row", "failures_in_row", "checked_at"),
        ]
    )
    tell_if_changed(row)


def _look_soon(row: ServiceInstance, until: float) -> Look | None:
    time.sleep(random.uniform(0, JITTER_SECONDS))  # noqa: S311 - guards nothing
    if time.monotonic() > until:
        return None
    try:
        return _look(instance_of(row))
    except Exception:
        logger.exception("instance %s could not be checked", row)
        return Look(ok=False, reason="cannot be checked", latency_ms=None, illness=Illness.NOT_CHECKED)


def _look(instance: Instance) -> Look:
    url = instance.base_url + client_for(instance).health_path
    began = time.monotonic()
    said = get_health(url, is_registered=instance.is_registered)
    latency = round(1000 * (time.monotonic() - began))
    if said is None:
        return Look(ok=False, reason=NO_ANSWER, latency_ms=None, illness=Illness.NO_ANSWER)
    if said.strip().lower() not in _HEALTHY_WORDS:
        return Look(ok=False, reason=f"says {printable(said.strip(), 50)!r}", latency_ms=latency)
    return Look(ok=True, reason="", latency_ms=latency)


def _summary_key(kind: ServiceKind) -> str:
    return f"services-healthy:{kind}"


def _check(kind: ServiceKind) -> Callable[[], None]:
    def check() -> None:
        healthy = cache.get(_summary_key(kind))
        if healthy is None:  # nobody asked lately, as just after the start
            healthy = any(_look(each).ok for each in settings_instances(kind))
            cache.set(_summary_key(kind), healthy, timeout=SUMMARY_KEPT_SECONDS)
        if not healthy:
            raise NotReadyError("no instance is healthy")

    return check


for _kind in ServiceKind:
    readiness_check(str(_kind))(_check(_kind))
