import re
from typing import Any

from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from commands.failures import failure_sentence, is_retryable
from commands.models import MAX_PERSONA, Command, CommandEvent, CommandResult, Mode, Priority
from commands.results import summary_of
from commands.states import Stage, Status
from files.api.serializers import FileOutput
from gateway.api.serializers import (
    JSONObjectField,
    QuerySerializer,
    StrictCharField,
    StrictIntegerField,
    StrictSerializer,
    TimeField,
    link_to,
)

MAX_TEXT = 10_000
MAX_TAGS, MAX_TAG = 20, 50  # how many, and how long each
MAX_OBJECT_BYTES = 64 * 1024
PERSONA = re.compile(r"[a-z0-9]+(?:_[a-z0-9]+)*")


class PersonaField(StrictCharField):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(max_length=MAX_PERSONA, **kwargs)

    def to_internal_value(self, data: Any) -> str:
        persona = super().to_internal_value(data)
        if not PERSONA.fullmatch(persona):
            raise serializers.ValidationError(_("Lower-case letters, digits and single underscores only."))
        return persona


class TagsField(serializers.ListField):
    child = StrictCharField(max_length=MAX_TAG)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(max_length=MAX_TAGS, **kwargs)

    def to_internal_value(self, data: Any) -> list[Any]:
        tags: list[Any] = super().to_internal_value(data)
        if len(set(tags)) != len(tags):
            raise serializers.ValidationError(_("The same tag is there twice."))
        return tags


class SegmentationInput(StrictSerializer):
    text = StrictCharField(max_length=MAX_TEXT, help_text="What is to be done, in Turkish or English.")
    mode = serializers.ChoiceField(Mode.choices, default=Mode.NORMAL)
    chaos_level = StrictIntegerField(
        min_value=1, max_value=10, required=False, allow_null=True, help_text="In chaos mode only."
    )
    persona = PersonaField(default="technical_expert")
    metadata = JSONObjectField(
        max_bytes=MAX_OBJECT_BYTES, default=dict, help_text="Kept, and handed on to the segmentation service."
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if attrs.get("chaos_level") is not None and attrs["mode"] != Mode.CHAOS:
            raise serializers.ValidationError({"chaos_level": [_("Goes with the chaos mode only.")]})
        return attrs


class CommandInput(SegmentationInput):
    priority = serializers.ChoiceField(Priority.choices, default=Priority.NORMAL)
    parameters = JSONObjectField(max_bytes=MAX_OBJECT_BYTES, default=dict, help_text="Handed on to the runner.")
    tags = TagsField(default=list)
    target = StrictCharField(
        max_length=50, required=False, help_text="A tag: only instances of the services that have it get the work."
    )
    deadline = TimeField(
        required=False,
        allow_null=True,
        help_text="If it has not begun by then, it fails; if it has not finished, it is cancelled.",
    )


class EventQuery(QuerySerializer):
    after = serializers.RegexField(r"\A[0-9]{1,9}\Z", default="0", help_text="The `seq` of the last event you have.")


class CommandErrorOutput(serializers.Serializer[Any]):
    code = serializers.CharField()
    detail = serializers.CharField()
    stage = serializers.ChoiceField(Stage.choices, allow_null=True)
    retryable = serializers.BooleanField()


class LinksOutput(serializers.Serializer[Any]):
    self = serializers.CharField()
    events = serializers.CharField()
    timeline = serializers.CharField()
    result = serializers.CharField()
    cancel = serializers.CharField()
    retry = serializers.CharField()


LINKED = ("events", "timeline", "result", "cancel", "retry")


def error_of(command: Command) -> dict[str, Any] | None:
    if not command.error_code:
        return None
    return {
        "code": command.error_code,
        "detail": failure_sentence(command.error_code, command.error_stage, command.error_cause),
        "stage": command.error_stage or None,
        "retryable": is_retryable(command.error_code),
    }


class CommandOutput(serializers.ModelSerializer[Command]):
    files = FileOutput(many=True, read_only=True)
    error = serializers.SerializerMethodField()
    links = serializers.SerializerMethodField()

    class Meta:
        model = Command
        fields = (
            "id",
            "text",
            "mode",
            "chaos_level",
            "persona",
            "priority",
            "parameters",
            "metadata",
            "tags",
            "target",
            "deadline",
            "status",
            "stage",
            "progress",
            "retry_of",
            "created_at",
            "started_at",
            "finished_at",
            "files",
            "error",
            "links",
        )
        read_only_fields = fields

    @extend_schema_field(CommandErrorOutput(allow_null=True))
    def get_error(self, command: Command) -> dict[str, Any] | None:
        return error_of(command)

    @extend_schema_field(LinksOutput)
    def get_links(self, command: Command) -> dict[str, str]:
        parts = {"self": "command", **{part: f"command-{part}" for part in LINKED}}
        return {link: link_to(view, command.id) for link, view in parts.items()}


class CommandStateOutput(serializers.Serializer[Any]):
    id = serializers.UUIDField(source="command_id")
    status = serializers.ChoiceField(Status.choices)
    stage = serializers.ChoiceField(Stage.choices, allow_null=True)
    progress = serializers.IntegerField()


class EventOutput(serializers.ModelSerializer[CommandEvent]):
    """One numbered event: the same object here and on the socket."""

    room = serializers.SerializerMethodField()
    command = CommandStateOutput(source="*")

    class Meta:
        model = CommandEvent
        fields = ("room", "seq", "command", "event", "data", "at")
        read_only_fields = fields

    def get_room(self, event: CommandEvent) -> str:
        return f"command:{event.command_id}"


class EventListOutput(serializers.Serializer[Any]):
    results = EventOutput(many=True)
    next = serializers.CharField(allow_null=True)
    previous = serializers.CharField(allow_null=True)


class TaskResultOutput(serializers.Serializer[Any]):
    id = serializers.CharField()
    description = serializers.CharField()
    status = serializers.CharField()
    output = serializers.CharField()
    error = serializers.CharField(allow_null=True)
    duration_ms = serializers.IntegerField(allow_null=True)


class ResultOutput(serializers.Serializer[Any]):
    status = serializers.ChoiceField(Status.choices)
    success_rate = serializers.FloatField(allow_null=True, help_text="0 to 1; null if nothing was run.")
    summary = serializers.CharField(help_text="The runner's; else how many tasks succeeded; empty if nothing was run.")
    output = serializers.CharField(help_text="What the tasks put out, one after another.")
    tasks = TaskResultOutput(many=True)
    files = FileOutput(many=True)
    error = CommandErrorOutput(allow_null=True)


def result_output(command: Command, result: CommandResult | None) -> dict[str, Any]:
    return {
        "status": command.status,
        "success_rate": result.success_rate if result else None,
        "summary": summary_of(result) if result else "",
        "output": result.output if result else "",
        "tasks": result.tasks if result else [],
        "files": command.files,
        "error": error_of(command),
    }
