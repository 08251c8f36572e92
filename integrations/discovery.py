"""Instances that nobody registers: those that the settings name, by an address or by a name with several (DNS)."""

import logging
import socket
from urllib.parse import urlsplit

from django.conf import settings

from integrations.models import FROM_SETTINGS, ServiceInstance, ServiceKind, Source
from integrations.registry import DNS

logger = logging.getLogger(__name__)


def sync_instances() -> None:
    """Write down what the settings name, and take away what they do not name any more.

    By one process, the worker that checks: others may have older settings while a new release comes up.
    """
    for kind in ServiceKind:
        wanted = _wanted(kind)
        if wanted is not None:
            _sync(kind, wanted)


def _sync(kind: ServiceKind, wanted: dict[str, Source]) -> None:
    dialect = settings.SERVICE_DIALECTS[kind]
    rows = ServiceInstance.objects.filter(kind=kind)
    known = {row.base_url: (row.source, row.dialect) for row in rows}
    gone = [url for url, (source, _dialect) in known.items() if source in FROM_SETTINGS and url not in wanted]
    if gone:
        rows.filter(base_url__in=gone, source__in=FROM_SETTINGS).delete()
    for url, source in wanted.items():
        if known.get(url) != (source, dialect):  # new, or registered before the settings named it
            said = {"source": source, "dialect": dialect, "time_to_live": None}
            ServiceInstance.objects.update_or_create(kind=kind, base_url=url, defaults=said)


def _wanted(kind: ServiceKind) -> dict[str, Source] | None:
    """Return base URLs and where they are from, None if a name cannot be resolved now: then all stays as it is."""
    wanted: dict[str, Source] = {}
    for url in settings.SERVICE_URLS[kind]:
        if not url.startswith(DNS):
            wanted[url.rstrip("/")] = Source.SETTINGS
            continue
        try:
            wanted |= dict.fromkeys(_resolved(url.removeprefix(DNS).rstrip("/")), Source.DNS)
        except OSError as error:
            logger.warning("the instances of %s stay as they are, %s cannot be resolved: %r", kind, url, error)
            return None
    return wanted


def _resolved(url: str) -> list[str]:
    parts = urlsplit(url)
    infos = socket.getaddrinfo(parts.hostname, parts.port or 80, type=socket.SOCK_STREAM)
    hosts = sorted({str(info[4][0]) for info in infos})
    return [
        parts._replace(netloc=f"{f'[{host}]' if ':' in host else host}:{parts.port or 80}").geturl() for host in hosts
    ]
