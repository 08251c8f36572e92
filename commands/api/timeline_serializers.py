from typing import Any

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from commands.api.serializers import CommandErrorOutput
from commands.failures import failure_sentence, is_retryable
from commands.models import StageRun
from commands.timeline import CancellationState, Timeline
from integrations.models import ServiceState


class TryServiceOutput(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    state = serializers.ChoiceField(ServiceState.choices, help_text="How it is now.")


class StageRunOutput(serializers.ModelSerializer[StageRun]):
    service = serializers.SerializerMethodField()
    duration_ms = serializers.SerializerMethodField()
    error = serializers.SerializerMethodField()

    class Meta:
        model = StageRun
        fields = (
            "id",
            "stage",
            "attempt",
            "instance",
            "service",
            "remote_id",
            "started_at",
            "finished_at",
            "duration_ms",
            "outcome",
            "not_taken",
            "error",
        )
        read_only_fields = fields

    @extend_schema_field(TryServiceOutput(allow_null=True))
    def get_service(self, run: StageRun) -> dict[str, Any] | None:
        timeline: Timeline = self.context["timeline"]
        row = timeline.service_of(run)
        return None if row is None else {"id": str(row.id), "state": row.state}

    def get_duration_ms(self, run: StageRun) -> int | None:
        return None if run.finished_at is None else int((run.finished_at - run.started_at).total_seconds() * 1000)

    @extend_schema_field(CommandErrorOutput(allow_null=True))
    def get_error(self, run: StageRun) -> dict[str, Any] | None:
        if not run.error_code:
            return None
        detail = failure_sentence(run.error_code, run.stage, run.error_cause)
        return {"code": run.error_code, "detail": detail, "stage": run.stage, "retryable": is_retryable(run.error_code)}


class CancellationOutput(serializers.Serializer[Any]):
    requested_at = serializers.DateTimeField()
    state = serializers.ChoiceField(CancellationState.choices)
    reason = serializers.CharField(help_text="What was given for it; empty if nothing was.")


class TimelineOutput(serializers.Serializer[Any]):
    results = StageRunOutput(many=True)
    waiting_for = serializers.CharField(allow_null=True, help_text="One sentence; null when the command has ended.")
    next_try_at = serializers.DateTimeField(allow_null=True, help_text="After a try that failed.")
    cancellation = CancellationOutput(allow_null=True)


def timeline_output(timeline: Timeline) -> dict[str, Any]:
    output: dict[str, Any] = TimelineOutput(
        {
            "results": timeline.runs,
            "waiting_for": timeline.waiting_for,
            "next_try_at": timeline.next_try_at,
            "cancellation": timeline.cancellation,
        },
        context={"timeline": timeline},
    ).data
    return output
