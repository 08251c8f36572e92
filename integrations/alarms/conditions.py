"""What the rules watch: each condition has a function that looks, and says of each thing how it is.

A room above adds what it knows of with `measures`; this module knows no room above.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Count, Q

from integrations import fleet
from integrations.alarms.models import AlarmRule, Condition
from integrations.clients.breaker import BreakerState, failing, states_of
from integrations.models import ServiceCheck, ServiceInstance, ServiceKind, ServiceState
from integrations.selectors import percentile

WINDOW = timedelta(minutes=5)  # of rates and latencies
FEWEST = 5  # less than this says nothing


@dataclass(frozen=True)
class Seen:
    """How one thing is; `is_so` is None if that cannot be said now, and then all stays as it is."""

    subject: str
    is_so: bool | None
    value: int | None = None
    detail: str = ""


Look = Callable[[AlarmRule, datetime], Iterable[Seen]]
_looks: dict[str, Look] = {}


def measures(condition: Condition) -> Callable[[Look], Look]:
    """Register the function that looks for a condition. It names everything that the rule watches, well or not."""

    def register(look: Look) -> Look:
        _looks[condition] = look
        return look

    return register


def look(rule: AlarmRule, now: datetime) -> list[Seen]:
    """Return how each thing is that a rule watches."""
    return list(_looks[rule.condition](rule, now))


def kinds_of(rule: AlarmRule) -> list[ServiceKind]:
    return [ServiceKind(rule.kind)] if rule.kind else list(ServiceKind)


def share(rule: AlarmRule, subject: str, failed: int, total: int) -> Seen:
    """Say whether too many failed, of all that there were; nothing if these were too few."""
    if total < FEWEST:
        return Seen(subject, None)
    percent = 100 * failed // total
    return Seen(subject, percent >= (rule.threshold or 0), percent)


@measures(Condition.INSTANCE_DOWN)
def instance_down(rule: AlarmRule, now: datetime) -> Iterable[Seen]:
    for row in _watched(rule):
        gone = row.has_gone(now)
        detail = "there is no heartbeat" if gone else row.health_reason
        is_ill = None if row.is_healthy is None else not row.is_healthy  # of one that just came back, nobody knows
        yield Seen(str(row), gone or is_ill, detail=detail)


@measures(Condition.SERVICE_DOWN)
def service_down(rule: AlarmRule, _now: datetime) -> Iterable[Seen]:
    healthy = {row.kind for row in ServiceInstance.objects.all() if row.state == ServiceState.HEALTHY}
    for kind in kinds_of(rule):
        yield Seen(str(kind), kind not in healthy)


@measures(Condition.BREAKER_OPEN)
def breaker_open(rule: AlarmRule, _now: datetime) -> Iterable[Seen]:
    """Say nothing of one that is half open: the next call decides whether it is well again.

    Without any call for FAILING_SECONDS, it is not so any more: else this would last for ever. Nor say anything
    without Redis: this process knows only what it found out by itself.
    """
    rows = _watched(rule)
    was_away = fleet.is_away()
    base_urls = {row.base_url for row in rows}
    states, ill_in_calls = states_of(base_urls), failing(base_urls)
    knows = not (was_away or fleet.is_away())
    for row in rows:
        is_open = states[row.base_url] is BreakerState.OPEN
        is_so = is_open or (None if row.base_url in ill_in_calls else False)
        yield Seen(str(row), is_so if knows else None)


@measures(Condition.CHECK_ERRORS)
def check_errors(rule: AlarmRule, now: datetime) -> Iterable[Seen]:
    rows = _watched(rule)
    checks = ServiceCheck.objects.filter(instance__in=rows, at__gt=now - WINDOW).order_by()
    counted = checks.values_list("instance").annotate(failed=Count("id", filter=Q(ok=False)), total=Count("id"))
    counts = {instance_id: (failed, total) for instance_id, failed, total in counted}
    for row in rows:
        # One without a heartbeat is checked no more: that it is down is told already, and not by its last checks too.
        gone = row.has_gone(now)
        yield Seen(str(row), is_so=False) if gone else share(rule, str(row), *counts.get(row.id, (0, 0)))


@measures(Condition.LATENCY)
def latency(rule: AlarmRule, now: datetime) -> Iterable[Seen]:
    rows = _watched(rule)
    checks = ServiceCheck.objects.filter(instance__in=rows, at__gt=now - WINDOW, ok=True)
    found: dict[Any, list[int]] = defaultdict(list)
    for instance_id, latency_ms in checks.order_by("latency_ms").values_list("instance", "latency_ms"):
        if latency_ms is not None:
            found[instance_id].append(latency_ms)
    for row in rows:
        values = found[row.id]
        value = percentile(values, rule.percentile or 0)
        knows = value is not None and len(values) >= FEWEST
        is_slow = (value or 0) >= (rule.threshold or 0) if knows else None
        yield Seen(str(row), False if row.has_gone(now) else is_slow, value)


def _watched(rule: AlarmRule) -> list[ServiceInstance]:
    """Return the instances that are to work: nobody need hear of one that drains, is disabled or has left."""
    to_work = ServiceInstance.objects.filter(left_at=None, is_disabled=False, is_draining=False)
    return list(to_work.filter(kind__in=kinds_of(rule)))
