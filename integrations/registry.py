"""Which instances of the services there are, and which one to take."""

import random
from dataclasses import dataclass
from enum import StrEnum

from django.conf import settings
from django.core.cache import cache

from integrations.clients.errors import Reason, TransientError

HEALTH_KEPT_SECONDS = 30


class ServiceKind(StrEnum):
    SEGMENTATION = "segmentation"
    RUNNER = "runner"
    ARCHIVE = "archive"


@dataclass(frozen=True)
class Instance:
    kind: ServiceKind
    base_url: str
    dialect: str = "standard"  # how it speaks: integrations.clients.dialects

    @property
    def health_key(self) -> str:
        return f"service-health:{self.kind}:{self.base_url}"


def instances(kind: ServiceKind) -> list[Instance]:
    dialect = settings.SERVICE_DIALECTS[kind]
    return [Instance(kind, url.rstrip("/"), dialect) for url in settings.SERVICE_URLS[kind]]


def choose(kind: ServiceKind, *, prefer: str | None = None, avoid: str | None = None) -> Instance:
    """Return the instance to call: the one that has the work already, else a healthy one, by chance.

    `prefer` and `avoid` are base URLs. Raises TransientError if there is no instance at all.
    """
    known = instances(kind)
    if not known:
        raise TransientError(Reason.UNAVAILABLE)
    for instance in known:
        if instance.base_url == prefer:
            return instance
    if len(known) == 1:
        return known[0]
    healthy = [instance for instance in known if is_healthy(instance) is not False]
    others = [instance for instance in healthy or known if instance.base_url != avoid]
    return random.choice(others or healthy or known)  # noqa: S311 - spreading load, not guarding anything


def is_healthy(instance: Instance) -> bool | None:
    """Return how the last check went, None if there was none lately."""
    healthy: bool | None = cache.get(instance.health_key)
    return healthy


def remember_health(instance: Instance, *, healthy: bool) -> None:
    cache.set(instance.health_key, healthy, timeout=HEALTH_KEPT_SECONDS)
