"""One stage by itself, and the search in the archive."""

import math
from typing import Any

from django.urls import reverse
from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from commands.api.serializers import (
    MAX_OBJECT_BYTES,
    MAX_TAG,
    MAX_TAGS,
    CommandErrorOutput,
    PersonaField,
    TagsField,
    error_of,
)
from commands.archive_search import MAX_OFFSET
from commands.models import Command, Mode, Priority, StageRun
from commands.pipeline.stages import STAGES
from commands.states import Stage, Status
from files.api.serializers import FileOutput
from gateway.api.serializers import JSONObjectField, QuerySerializer, StrictCharField, StrictSerializer


class _FileInput(StrictSerializer):
    """A file to work on: its text, or one that the gateway has."""

    content = StrictCharField(required=False, help_text="The text of the file; it is kept as a file of yours.")
    file = serializers.UUIDField(required=False, help_text="Instead of `content`: the id of a file of yours.")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if ("content" in attrs) == ("file" in attrs):
            message = serializers.ErrorDetail(str(_("Give either this or `file`.")), code="required")
            raise serializers.ValidationError({"content": [message]})
        return attrs


class RunnerInput(_FileInput):
    mode = serializers.ChoiceField(Mode.choices, required=False, help_text="That of the `.alt`, if not given.")
    persona = PersonaField(required=False, help_text="That of the `.alt`, if not given.")
    priority = serializers.ChoiceField(Priority.choices, default=Priority.NORMAL)
    parameters = JSONObjectField(max_bytes=MAX_OBJECT_BYTES, default=dict)


class ArchiveInput(_FileInput):
    tags = TagsField(default=list)
    metadata = JSONObjectField(max_bytes=MAX_OBJECT_BYTES, default=dict, help_text="Handed on to the archive.")


class StepLinksOutput(serializers.Serializer[Any]):
    self = serializers.CharField()
    events = serializers.CharField()
    timeline = serializers.CharField()


class StepOutput(serializers.Serializer[Command]):
    id = serializers.UUIDField()
    kind = serializers.ChoiceField(Stage.choices, source="only_stage")
    status = serializers.ChoiceField(Status.choices)
    instance = serializers.CharField(  # type: ignore[assignment]  # no attribute: the metaclass takes fields away
        default=None, allow_null=True, help_text="Which instance has the work, or had it last."
    )
    progress = serializers.IntegerField()
    file = serializers.SerializerMethodField(help_text="What the service made, as a file of yours.")
    error = serializers.SerializerMethodField()
    created_at = serializers.DateTimeField()
    finished_at = serializers.DateTimeField(allow_null=True)
    links = serializers.SerializerMethodField()

    @extend_schema_field(FileOutput(allow_null=True))
    def get_file(self, step: Command) -> Any:
        file = getattr(step, STAGES[Stage(str(step.only_stage))].file_field)
        return None if file is None else FileOutput(file).data

    @extend_schema_field(CommandErrorOutput(allow_null=True))
    def get_error(self, step: Command) -> dict[str, Any] | None:
        return error_of(step)

    @extend_schema_field(StepLinksOutput)
    def get_links(self, step: Command) -> dict[str, str]:
        views = {"self": f"{step.only_stage}-step", "events": "command-events", "timeline": "command-timeline"}
        return {link: reverse(view, args=[step.id]) for link, view in views.items()}


class ArchiveSearchQuery(QuerySerializer):
    q = serializers.CharField(required=False, max_length=1000, help_text="What is looked for, in the archive's way.")
    tags = serializers.CharField(required=False, help_text="Several by comma: at most 20 of at most 50 characters.")
    min_success_rate = serializers.FloatField(required=False, min_value=0, max_value=1)
    limit = serializers.IntegerField(default=25, min_value=1, max_value=100)
    offset = serializers.IntegerField(
        default=0, min_value=0, max_value=MAX_OFFSET, help_text="`next_offset` of the page before."
    )

    def validate_tags(self, tags: str) -> list[str]:
        wanted = tags.split(",")
        if not all(tag.strip() for tag in wanted):
            raise serializers.ValidationError(_("Must not be empty."), code="blank")
        if len(wanted) > MAX_TAGS or any(len(tag) > MAX_TAG for tag in wanted):
            raise serializers.ValidationError(_("At most 20 tags of 50 characters each."), code="max_length")
        return wanted

    def validate_min_success_rate(self, rate: float) -> float:
        if not math.isfinite(rate):  # not a number is neither too small nor too large
            raise serializers.ValidationError(_("Must be a number from 0 to 1."))
        return rate

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if not attrs.keys() & {"q", "tags", "min_success_rate"}:
            message = serializers.ErrorDetail(str(_("Say what to look for.")), code="required")
            raise serializers.ValidationError({"q": [message]})
        return attrs


class ArchiveEntryOutput(serializers.Serializer[StageRun]):
    """An entry of the archive, as the gateway itself knows it."""

    id = serializers.CharField(source="remote_id", help_text="The archive's own.")
    text = serializers.CharField(source="command.text", help_text="Of the command; empty if a step archived it.")
    tags = serializers.ListField(child=serializers.CharField(), source="command.tags")
    success_rate = serializers.FloatField(
        source="command.result.success_rate", allow_null=True, help_text="Null if a step archived it."
    )
    summary = serializers.CharField(
        source="command.result.summary", allow_null=True, help_text="Null if a step archived it."
    )
    archived_at = serializers.DateTimeField(source="finished_at")
    file = FileOutput(source="command.atlas_file", allow_null=True, help_text="The `.atlas`.")
    links = serializers.SerializerMethodField()

    @extend_schema_field(serializers.DictField(child=serializers.CharField()))
    def get_links(self, run: StageRun) -> dict[str, str]:
        view = "archive-step" if run.command.only_stage else "command"
        return {view.partition("-")[0]: reverse(view, args=[run.command_id])}


class ArchiveSearchOutput(serializers.Serializer[Any]):
    results = ArchiveEntryOutput(many=True)
    next_offset = serializers.IntegerField(allow_null=True, help_text="Where to go on; null at the end.")
