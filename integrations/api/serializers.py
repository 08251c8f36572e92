from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from django.utils.functional import cached_property
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from gateway.api.serializers import PageQuery, StrictBooleanField, StrictCharField, StrictIntegerField, StrictSerializer
from integrations.clients.breaker import BreakerState, states_of
from integrations.models import (
    MAX_TIME_TO_LIVE,
    MIN_TIME_TO_LIVE,
    ServiceCheck,
    ServiceInstance,
    ServiceKind,
    ServiceState,
)
from integrations.selectors import Latency, last_checks, latencies


class CheckOutput(serializers.ModelSerializer[ServiceCheck]):
    class Meta:
        model = ServiceCheck
        fields = ("at", "ok", "reason", "latency_ms")
        read_only_fields = fields


class LatencyOutput(serializers.Serializer[Any]):
    p50_ms = serializers.IntegerField(allow_null=True)
    p95_ms = serializers.IntegerField(allow_null=True)


class ServiceOutput(serializers.ModelSerializer[ServiceInstance]):
    """An instance; `context_of` gives the context."""

    state = serializers.ChoiceField(choices=[choice for choice in ServiceState.choices if choice[0] != "left"])
    reason = serializers.CharField(help_text="Why it is unhealthy; empty if it is not.")
    since = serializers.DateTimeField(allow_null=True, help_text="Of its health.")
    breaker = serializers.SerializerMethodField(help_text="`open`: calls failed several times, and it is left alone.")
    latency = serializers.SerializerMethodField(help_text="Of the checks of the last quarter of an hour.")
    last_checks = serializers.SerializerMethodField()

    class Meta:
        model = ServiceInstance
        fields = (
            *("id", "kind", "base_url", "version", "dialect", "weight", "tags", "source", "state", "reason", "since"),
            *(
                "is_draining",
                "is_disabled",
                "time_to_live",
                "heartbeat_at",
                "breaker",
                "latency",
                "last_checks",
                "created_at",
            ),
        )
        read_only_fields = fields

    @extend_schema_field(serializers.ChoiceField(choices=[str(state) for state in BreakerState]))
    def get_breaker(self, row: ServiceInstance) -> str:
        return str(self.context["breakers"][row.base_url])

    @extend_schema_field(LatencyOutput)
    def get_latency(self, row: ServiceInstance) -> Any:
        latency: Latency = self.context["latencies"][row.id]
        return asdict(latency)

    @extend_schema_field(CheckOutput(many=True))
    def get_last_checks(self, row: ServiceInstance) -> Any:
        return [self._check_output.to_representation(check) for check in self.context["checks"][row.id]]

    @cached_property
    def _check_output(self) -> CheckOutput:
        return CheckOutput()  # one for all: to make one takes longer than to use it


def context_of(rows: Sequence[ServiceInstance]) -> dict[str, Any]:
    """Return what ServiceOutput has to know of these, besides the rows: at a constant price."""
    breakers = states_of(row.base_url for row in rows)
    return {"checks": last_checks(rows), "latencies": latencies(rows), "breakers": breakers}


class TagsField(serializers.ListField):
    child = StrictCharField(max_length=50)


class ServiceQuery(PageQuery):
    kind = serializers.ChoiceField(choices=ServiceKind.choices, required=False)


class _Described(StrictSerializer):
    version = StrictCharField(max_length=50, allow_blank=True, required=False)
    weight = StrictIntegerField(
        min_value=1, max_value=100, required=False, help_text="How much work it gets, compared with others."
    )
    tags = TagsField(max_length=20, required=False, help_text="Commands choose instances by them (`target`).")


class ServiceInput(_Described):
    kind = serializers.ChoiceField(choices=ServiceKind.choices)
    dialect = StrictCharField(max_length=30, required=False, help_text="How it speaks; `standard` if not given.")
    base_url = StrictCharField(max_length=300, help_text="`http://` or `https://`, without a query.")
    time_to_live = StrictIntegerField(
        min_value=MIN_TIME_TO_LIVE,
        max_value=MAX_TIME_TO_LIVE,
        default=60,
        help_text="Seconds without a heartbeat after which it leaves.",
    )


class ServiceChangeInput(_Described):
    time_to_live = StrictIntegerField(min_value=MIN_TIME_TO_LIVE, max_value=MAX_TIME_TO_LIVE, required=False)
    is_draining = StrictBooleanField(required=False)
    is_disabled = StrictBooleanField(required=False)
    reason = StrictCharField(max_length=200, required=False, help_text="For the audit record.")
