"""`GET commands/stats`."""

from datetime import timedelta
from typing import Any, ClassVar

from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import OpenApiExample, extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.response import Response

from accounts.requests import SignedInRequest
from commands.api.filters import ALL_COMMANDS, require_for_others
from commands.rollups import HOUR, hour_of
from commands.states import TERMINAL, Status
from commands.stats import INTERVALS, Durations, Stats, command_stats
from gateway.api.serializers import QuerySerializer, StrictUUIDField, TimeField
from gateway.api.views import ApiView

DEFAULT_SPAN = timedelta(days=7)
MAX_SERIES = 750  # a month by the hour, two years by the day
EVERYBODY = "all"
ENDS = sorted(TERMINAL)


@extend_schema_field({"oneOf": [{"type": "string", "format": "uuid"}, {"type": "string", "enum": [EVERYBODY]}]})
class WhoseField(StrictUUIDField):
    default_error_messages: ClassVar = {"invalid": _("Must be the id of a user, or `all`.")}

    def to_internal_value(self, data: Any) -> Any:
        return EVERYBODY if data == EVERYBODY else super().to_internal_value(data)


class StatsQuery(QuerySerializer):
    to = TimeField(required=False, help_text="Rounded up to a whole hour. Default: now.")
    interval = serializers.ChoiceField(tuple(INTERVALS), required=False, help_text="Adds a series, in UTC.")
    user = WhoseField(required=False, help_text=f"Another user, or `all`; needs `{ALL_COMMANDS}`.")

    def get_fields(self) -> dict[str, Any]:
        since = TimeField(required=False, help_text="Rounded down to a whole hour. Default: 7 days before `to`.")
        return {"from": since, **super().get_fields()}

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        to = attrs.get("to", timezone.now())
        until = hour_of(to) + (HOUR if to > hour_of(to) else timedelta())
        since = hour_of(attrs["from"]) if "from" in attrs else until - DEFAULT_SPAN
        if since >= until:
            raise serializers.ValidationError({"to": [_("Must be later than `from`.")]})
        step = INTERVALS.get(attrs.get("interval", ""))
        if step is not None and (until - since) / step > MAX_SERIES:
            message = _("These would be more than %(number)s: choose a longer interval or a shorter time.")
            raise serializers.ValidationError({"interval": [message % {"number": MAX_SERIES}]})
        return {**attrs, "from": since, "to": until}


class DurationsOutput(serializers.Serializer[Durations]):
    mean_ms = serializers.SerializerMethodField()
    max_ms = serializers.SerializerMethodField()
    p50_ms = serializers.SerializerMethodField(help_text="Half of them took no longer; rounded up (see docs/api.md).")
    p95_ms = serializers.SerializerMethodField()

    def get_mean_ms(self, took: Durations) -> int | None:
        return _milliseconds(took.mean)

    def get_max_ms(self, took: Durations) -> int | None:
        return _milliseconds(took.longest if took.number else None)

    def get_p50_ms(self, took: Durations) -> int | None:
        return _milliseconds(took.percentile(50))

    def get_p95_ms(self, took: Durations) -> int | None:
        return _milliseconds(took.percentile(95))


class EndsOutput(serializers.Serializer[Any]):
    completed = serializers.IntegerField()
    failed = serializers.IntegerField()
    cancelled = serializers.IntegerField()


class IntervalOutput(EndsOutput):
    at = serializers.DateTimeField(help_text="When the interval begins.")


class StatsOutput(serializers.Serializer[Stats]):
    to = serializers.DateTimeField(source="until")
    ended = serializers.IntegerField(help_text="How many ended from `from` on and before `to`.")
    by_status = EndsOutput()
    by_mode = serializers.DictField(child=serializers.IntegerField())
    by_error = serializers.DictField(child=serializers.IntegerField(), help_text="By the code of the error.")
    success_rate = serializers.FloatField(
        allow_null=True, help_text="0 to 1: completed ones among those completed or failed; null if there are none."
    )
    durations = DurationsOutput(source="completed", help_text="Of completed ones, from the creation to the end.")
    in_flight = serializers.DictField(child=serializers.IntegerField(), help_text="Not ended now, by status.")
    series = serializers.SerializerMethodField()

    def get_fields(self) -> dict[str, Any]:
        return {"from": serializers.DateTimeField(source="since"), **super().get_fields()}

    @extend_schema_field(IntervalOutput(many=True))
    def get_series(self, stats: Stats) -> Any:
        return [{"at": at, **{end: ended[end] for end in ENDS}} for at, ended in stats.series.items()]

    def to_representation(self, instance: Stats) -> dict[str, Any]:
        instance.by_status.update(dict.fromkeys(ENDS, 0))
        return super().to_representation(instance)


def _milliseconds(took: timedelta | None) -> int | None:
    return None if took is None else round(took / timedelta(milliseconds=1))


EXAMPLE = {
    "from": "2026-11-23T00:00:00Z",
    "to": "2026-11-24T00:00:00Z",
    "ended": 40,
    "by_status": {"completed": 36, "failed": 3, "cancelled": 1},
    "by_mode": {"normal": 38, "chaos": 2},
    "by_error": {"runner_timeout": 3},
    "success_rate": 0.923,
    "durations": {"mean_ms": 1830, "max_ms": 12400, "p50_ms": 2000, "p95_ms": 10000},
    "in_flight": {status.value: int(status is Status.RUNNING) for status in Status if status not in TERMINAL},
    "series": [{"at": "2026-11-23T00:00:00Z", "cancelled": 1, "completed": 36, "failed": 3}],
}


class CommandStatsView(ApiView):
    required_permissions: ClassVar = {"GET": "commands.read_own_command"}
    query_serializer_class = StatsQuery

    @extend_schema(responses=StatsOutput, examples=[OpenApiExample("A day", EXAMPLE, response_only=True)])
    def get(self, request: SignedInRequest) -> Response:
        """How your commands ended, exact to the moment, even of those that are no longer kept; and what is going on."""
        query = self.query
        whose = query.get("user", request.user.pk)
        require_for_others(request, whose)
        stats = command_stats(
            user_id=None if whose == EVERYBODY else whose,
            since=query["from"],
            until=query["to"],
            interval=query.get("interval"),
        )
        return Response(StatsOutput(stats).data)
