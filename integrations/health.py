"""Health of the instances: asked regularly by a worker, kept in the cache, read by the readiness check."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from gateway.health import NotReadyError, readiness_check
from integrations.clients.dialects import client_for
from integrations.clients.http import get_health
from integrations.registry import Instance, ServiceKind, instances, is_healthy, remember_health

_HEALTHY_WORDS = {"ok", "up", "healthy"}


def check_instances() -> dict[Instance, bool]:
    """Ask every instance side by side, and remember the answers."""
    known = [instance for kind in ServiceKind for instance in instances(kind)]
    with ThreadPoolExecutor(max_workers=min(len(known), 16) or 1, thread_name_prefix="health") as executor:
        results = dict(zip(known, executor.map(_probe, known), strict=True))
    for instance, healthy in results.items():
        remember_health(instance, healthy=healthy)
    return results


def _probe(instance: Instance) -> bool:
    said = get_health(instance.base_url + client_for(instance).health_path)
    return said is not None and said.strip().lower() in _HEALTHY_WORDS


def _check(kind: ServiceKind) -> Callable[[], None]:
    def check() -> None:
        for instance in instances(kind):
            healthy = is_healthy(instance)
            if healthy is None:  # nobody asked lately, as just after the start
                healthy = _probe(instance)
                remember_health(instance, healthy=healthy)
            if healthy:
                return
        raise NotReadyError("no instance is healthy")

    return check


for _kind in ServiceKind:
    readiness_check(str(_kind))(_check(_kind))
