"""Metrics for Prometheus: how the gateway as a whole is, whatever process answers; read when somebody asks.

An app adds what it knows of with `collector`; this module knows no app. Its registry is its own: that of the library is
for what one process counts, and there are many.
"""

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import ClassVar

from django.conf import settings
from django.http import HttpResponse
from drf_spectacular.utils import extend_schema
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from rest_framework.request import Request

from gateway.api.negotiation import AnyAccept
from gateway.api.views import ApiView

logger = logging.getLogger(__name__)

Collect = Callable[[], Iterable[Metric]]
_collectors: dict[str, Collect] = {}


def collector(name: str) -> Callable[[Collect], Collect]:
    """Register a function that returns series. Its price must not grow with what there is to count without an end."""

    def register(collect: Collect) -> Collect:
        _collectors[name] = collect
        return collect

    return register


def gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    """Return a series without values yet."""
    return GaugeMetricFamily(name, text, labels=labels)


class _Everything:
    """What is on the page: all collectors, and how each did. One that fails leaves its series out, and no others."""

    def collect(self) -> Iterator[Metric]:
        yield InfoMetricFamily("gateway_build", "The release that answers.", {"version": settings.VERSION})
        success = gauge(
            "gateway_collector_success", "1 if these series could be read; else they are left out.", "collector"
        )
        for name, collect in _collectors.items():
            try:
                series = list(collect())
            except Exception:
                logger.exception("the metrics of %s could not be read", name)
                series = []
                success.add_metric([name], 0)
            else:
                success.add_metric([name], 1)
            yield from series
        yield success


_registry = CollectorRegistry()
_registry.register(_Everything())


class MetricsView(ApiView):
    required_permissions: ClassVar = {"GET": "accounts.read_metrics"}
    content_negotiation_class = AnyAccept

    @extend_schema(exclude=True)
    def get(self, request: Request) -> HttpResponse:
        """All series, as text or OpenMetrics."""
        try:
            encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        except (TypeError, ValueError):  # a version that is none
            encode, content_type = choose_encoder("")
        return HttpResponse(encode(_registry), content_type=content_type, headers={"Vary": "Accept"})
