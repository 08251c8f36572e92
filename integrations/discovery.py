"""Instances that nobody registers: those that the settings name, by an address or by a name with several (DNS)."""

import logging
import socket
from urllib.parse import urlsplit

from django.conf import settings
from django.db import transaction

from integrations.models import ServiceInstance, ServiceKind, Source

logger = logging.getLogger(__name__)

DNS = "dns+"  # dns+http://runner.internal:9000 stands for each address that the name has


def sync_instances() -> None:
    """Write down what the settings name, and take away what they do not name any more.

    By one process, the worker that checks: others may have older settings while a new release comes up.
    """
    for kind in ServiceKind:
        wanted = _wanted(kind)
        if wanted is None:
            continue
        known = dict(ServiceInstance.objects.filter(kind=kind).values_list("base_url", "source"))
        ours = {url for url, source in known.items() if source in (Source.SETTINGS, Source.DNS)}
        if wanted.keys() <= known.keys() and ours <= wanted.keys():
            continue
        with transaction.atomic():
            ServiceInstance.objects.filter(kind=kind, base_url__in=ours - wanted.keys()).delete()
            ServiceInstance.objects.bulk_create(
                [ServiceInstance(kind=kind, base_url=url, source=source) for url, source in wanted.items()],
                ignore_conflicts=True,
            )


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
