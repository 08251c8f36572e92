"""What Prometheus is told of services and alarms."""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from django.db.models import Count
from django.utils import timezone
from prometheus_client.core import CounterMetricFamily, Metric

from gateway.metrics import collector, gauge
from integrations import fleet
from integrations.alarms.models import Alarm, AlarmState, Severity
from integrations.clients.breaker import METHODS, RESET_SECONDS, BreakerState
from integrations.clients.fleet_storage import STANDINGS, Keys
from integrations.models import ServiceKind, ServiceState
from integrations.selectors import instance_list

INSTANCE = ("kind", "base_url")


@collector("services")
def services() -> Iterator[Metric]:
    now = timezone.now()
    rows = list(instance_list().order_by("kind", "base_url"))
    counts = Counter((row.kind, row.state) for row in rows)
    instances = gauge("gateway_service_instances", "Instances of a service.", "kind", "state")
    for kind in ServiceKind:
        for state in ServiceState:
            if state is not ServiceState.LEFT:
                instances.add_metric([kind.value, state.value], counts[kind, state])
    yield instances
    healthy = gauge("gateway_service_instance_healthy", "1 if it is well. Not of one that is disabled.", *INSTANCE)
    for row in rows:
        if not row.is_disabled:
            is_well = bool(row.is_healthy) and not row.has_gone(now) and not row.is_overlooked()
            healthy.add_metric([row.kind, row.base_url], is_well)
    yield healthy


@collector("breakers")
def breakers() -> Iterator[Metric]:
    """Say only what the fleet knows: without Redis, each process has breakers of its own, which say little."""
    rows = list(instance_list().order_by("kind", "base_url").values_list(*INSTANCE))
    found = fleet.ask(lambda redis: _look(redis, {base_url for _kind, base_url in rows}), None)
    up = gauge("gateway_redis_up", "1 if Redis answers; else there are no series of breakers and calls in flight.")
    up.add_metric([], found is not None)
    yield up
    if found is None:
        return
    states = gauge(
        "gateway_service_breaker_state", "1 for the state that the breaker is in, 0 for others.",
        *INSTANCE, "method", "state",
    )  # fmt: skip
    openings = CounterMetricFamily(
        "gateway_service_breaker_openings",
        "Times that the breaker opened, or was closed by hand; begins anew a day after the last change.",
        labels=[*INSTANCE, "method"],
    )
    in_flight = gauge("gateway_service_calls_in_flight", "Calls that the address has at this moment.", *INSTANCE)
    for kind, base_url in rows:
        words, times, calls = found[base_url]
        for method, word, opened in zip(METHODS, words, times, strict=True):
            for state in BreakerState:
                states.add_metric([kind, base_url, method, state.value], word == state)
            openings.add_metric([kind, base_url, method], opened)
        in_flight.add_metric([kind, base_url], calls)
    yield from (states, openings, in_flight)


def _look(redis: Any, base_urls: Iterable[str]) -> dict[str, tuple[list[str], list[int], int]]:
    """Return, of each address, for each kind of call the breaker's state and openings; and the calls in flight."""
    urls = list(base_urls)
    of_url = {url: [Keys(url, method).breaker for method in METHODS] for url in urls}
    seen = STANDINGS(redis, [name for url in urls for name in (*of_url[url], Keys.in_flight_of(url))], RESET_SECONDS)
    pipeline = redis.pipeline(transaction=False)
    for name in (name for url in urls for name in of_url[url]):
        pipeline.hget(name, "openings")
    openings = [int(each or 0) for each in pipeline.execute()]
    size = len(METHODS)
    found = {}
    for at, url in enumerate(urls):
        *words, in_flight = seen[at * (size + 1) : (at + 1) * (size + 1)]
        found[url] = ([word.decode() for word in words], openings[at * size : (at + 1) * size], int(in_flight))
    return found


@collector("alarms")
def alarms() -> Iterator[Metric]:
    counted = Alarm.objects.filter(state=AlarmState.FIRING).order_by().values_list("severity").annotate(Count("id"))
    counts = dict(counted)
    firing = gauge("gateway_alarms_firing", "Alarms that fire, silenced and acknowledged ones too.", "severity")
    for severity in Severity:
        firing.add_metric([severity.value], counts.get(severity.value, 0))
    yield firing
