"""Alarms: what is wrong now, what was, and who sees to it."""

from typing import Any, ClassVar
from uuid import UUID

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.response import Response

from accounts.requests import SignedInRequest
from gateway.api.serializers import PageQuery, StrictCharField, StrictSerializer
from gateway.api.views import ApiView
from integrations.alarms.models import Alarm, AlarmEvent, AlarmState, Severity
from integrations.alarms.selectors import alarm_get, alarm_list
from integrations.alarms.services import alarm_acknowledge, alarm_silence, alarm_silence_end

VIEW, ACKNOWLEDGE, SILENCE = (f"integrations.{act}_alarm" for act in ("view", "acknowledge", "silence"))


class AlarmOutput(serializers.ModelSerializer[Alarm]):
    rule_id = serializers.UUIDField(allow_null=True, help_text="Null if the rule is gone.")
    title = serializers.CharField()
    text = serializers.CharField(source="sentence", help_text="What is wrong, in your language.")
    value = serializers.IntegerField(allow_null=True, help_text="Percent, milliseconds or commands; when it fired.")
    subject = serializers.CharField(help_text="An instance, a service, or empty: the gateway itself.")
    since = serializers.DateTimeField(help_text="When it was seen first.")

    class Meta:
        model = Alarm
        fields = (
            *("id", "rule_id", "title", "condition", "severity", "subject", "state", "text", "value"),
            *(
                "since",
                "fired_at",
                "resolved_at",
                "is_unwatched",
                "acknowledged_at",
                "acknowledged_by",
                "silenced_until",
            ),
        )
        read_only_fields = fields


class AlarmEventOutput(serializers.ModelSerializer[AlarmEvent]):
    class Meta:
        model = AlarmEvent
        fields = ("event", "at", "actor_name", "reason", "is_notice")
        read_only_fields = fields


class AlarmDetailOutput(AlarmOutput):
    events = AlarmEventOutput(many=True)

    class Meta(AlarmOutput.Meta):
        fields: Any = (*AlarmOutput.Meta.fields, "events")
        read_only_fields: Any = fields


class AlarmQuery(PageQuery):
    state = serializers.ChoiceField(choices=AlarmState.choices, required=False)
    severity = serializers.ChoiceField(choices=Severity.choices, required=False)


class AcknowledgeInput(StrictSerializer):
    reason = StrictCharField(max_length=200, help_text="Shown with it, and in the audit record.")


class SilenceInput(AcknowledgeInput):
    until = serializers.DateTimeField(help_text="At most 7 days ahead.")


class AlarmListView(ApiView):
    required_permissions: ClassVar = {"GET": VIEW}
    serializer_class = AlarmOutput
    query_serializer_class = AlarmQuery

    @extend_schema(responses=AlarmOutput(many=True))
    def get(self, request: SignedInRequest) -> Response:
        """Alarms of the last 90 days, the newest first. A pending one has not lasted long enough to fire."""
        rows = alarm_list(state=self.query.get("state"), severity=self.query.get("severity"))
        return self.get_paginated_response(AlarmOutput(self.paginate_queryset(rows), many=True).data)


class AlarmView(ApiView):
    required_permissions: ClassVar = {"GET": VIEW}

    @extend_schema(responses=AlarmDetailOutput)
    def get(self, request: SignedInRequest, alarm_id: UUID) -> Response:
        """One alarm, with what happened to it."""
        return _answer(alarm_id)


class AlarmAcknowledgeView(ApiView):
    required_permissions: ClassVar = {"POST": ACKNOWLEDGE}

    @extend_schema(request=AcknowledgeInput, responses=AlarmDetailOutput)
    def post(self, request: SignedInRequest, alarm_id: UUID) -> Response:
        """Say that you see to it: it is not told again. The first who does so stands; 409 when it is over."""
        alarm = alarm_get(alarm_id)
        alarm_acknowledge(actor=request.user, alarm=alarm, **self.read_body(request, AcknowledgeInput))
        return _answer(alarm_id)


class AlarmSilenceView(ApiView):
    required_permissions: ClassVar = {"POST": SILENCE, "DELETE": SILENCE}

    @extend_schema(request=SilenceInput, responses=AlarmDetailOutput)
    def post(self, request: SignedInRequest, alarm_id: UUID) -> Response:
        """Tell nobody of it until then, also if it ends and begins again. It is recorded all the same."""
        alarm = alarm_get(alarm_id)
        alarm_silence(actor=request.user, alarm=alarm, **self.read_body(request, SilenceInput))
        return _answer(alarm_id)

    @extend_schema(responses={204: None})
    def delete(self, request: SignedInRequest, alarm_id: UUID) -> Response:
        """End the silence. If nobody was told of the alarm yet, people are now."""
        alarm_silence_end(actor=request.user, alarm=alarm_get(alarm_id))
        return Response(status=204)


def _answer(alarm_id: UUID) -> Response:
    return Response(AlarmDetailOutput(alarm_get(alarm_id)).data)
