"""Instances that nobody registers: those that the settings name, by an address or by a name with several (DNS)."""

import logging
from datetime import timedelta
from urllib.parse import urlsplit

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from integrations.addresses import DEFAULT_PORTS, addresses_of, normalized
from integrations.events import tell_if_changed
from integrations.models import FROM_SETTINGS, ServiceInstance, ServiceKind, Source
from integrations.registry import DNS
from integrations.services import instance_leaves

logger = logging.getLogger(__name__)

# After the settings named it last. While a release comes up, workers with older and with newer settings take turns
# here: what either of them names stays. The same goes for a name that answers with some of its addresses at a time.
UNNAMED_KEPT = timedelta(seconds=60)


def sync_instances() -> None:
    """Write down what the settings name, and let leave what they have not named for a while."""
    for kind in ServiceKind:
        wanted = _wanted(kind)
        if wanted is not None:
            _sync(kind, wanted)


def _sync(kind: ServiceKind, wanted: dict[str, Source]) -> None:
    dialect, now = settings.SERVICE_DIALECTS[kind], timezone.now()
    rows = {row.base_url: row for row in ServiceInstance.objects.filter(kind=kind)}
    for url, source in wanted.items():
        row = rows.get(url)
        if row is None or row.left_at is not None or (row.source, row.dialect) != (source, dialect):
            _come(kind, url, {"source": source, "dialect": dialect})
    named = ServiceInstance.objects.filter(kind=kind, source__in=FROM_SETTINGS)
    named.filter(base_url__in=wanted).update(heartbeat_at=now)
    unnamed = named.filter(left_at=None, heartbeat_at__lt=now - UNNAMED_KEPT)
    for pk in list(unnamed.values_list("pk", flat=True)):
        with transaction.atomic():
            left = unnamed.select_for_update(no_key=True).filter(pk=pk).first()
            if left is not None:
                instance_leaves(left)


def _come(kind: ServiceKind, url: str, said: dict[str, str]) -> None:
    """Write down an instance that is new, has left, or was registered before the settings named it.

    From now on it has no owner. What an administrator set stays.
    """
    nobody = {"registered_by": None, "time_to_live": None, "left_at": None, "heartbeat_at": timezone.now()}
    with transaction.atomic():
        row, _is_new = ServiceInstance.objects.update_or_create(kind=kind, base_url=url, defaults={**said, **nobody})
        tell_if_changed(row)


def _wanted(kind: ServiceKind) -> dict[str, Source] | None:
    """Return base URLs and where they are from, None if a name cannot be resolved now: then all stays as it is."""
    wanted: dict[str, Source] = {}
    for url in settings.SERVICE_URLS[kind]:
        if not url.startswith(DNS):
            wanted[normalized(url)] = Source.SETTINGS
            continue
        try:
            wanted |= dict.fromkeys(_resolved(url.removeprefix(DNS)), Source.DNS)
        except OSError as error:
            logger.warning("the instances of %s stay as they are, %s cannot be resolved: %r", kind, url, error)
            return None
    return wanted


def _resolved(url: str) -> list[str]:
    parts = urlsplit(normalized(url))
    port = parts.port or DEFAULT_PORTS[parts.scheme]
    hosts = [f"[{host}]" if ":" in host else host for host in addresses_of(parts.hostname or "")]
    return [normalized(parts._replace(netloc=f"{host}:{port}").geturl()) for host in hosts]
