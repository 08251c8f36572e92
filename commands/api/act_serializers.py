"""What is done with commands that there are, and with many at once."""

from typing import Any

from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers
from rest_framework.exceptions import APIException

from commands.api.filters import FilterQuery
from commands.api.serializers import MAX_TAG, MAX_TAGS, CommandInput, CommandOutput
from commands.bulk import CANCELLABLE, MAX_ITEMS
from commands.models import Command, Mode
from gateway.api.problems import problem_of
from gateway.api.serializers import StrictCharField, StrictSerializer, StrictUUIDField, output_of


class RetryInput(StrictSerializer):
    def get_fields(self) -> dict[str, Any]:
        """Return the one field, whose name is a word of the language."""
        return {
            "from": serializers.ChoiceField(
                ["start"], required=False, help_text="Begin anew, instead of after the last stage that succeeded."
            )
        }


@extend_schema_field(CommandInput(many=True))
class CommandsField(serializers.ListField):
    """Bodies of commands: each is checked by itself."""


class BulkSubmitInput(StrictSerializer):
    commands = CommandsField(min_length=1, max_length=MAX_ITEMS, help_text="Each as the body of `POST commands`.")


class IdsField(serializers.ListField):
    child = StrictUUIDField()

    def to_internal_value(self, data: Any) -> list[Any]:
        ids: list[Any] = super().to_internal_value(data)
        if len(set(ids)) != len(ids):
            raise serializers.ValidationError(_("The same id is there twice."))
        return ids


class OneOrSeveralField(serializers.ListField):
    """A value, or a list of values."""

    def to_internal_value(self, data: Any) -> list[Any]:
        values: list[Any] = super().to_internal_value([data] if isinstance(data, str) else data)
        return values


class CancelFilter(FilterQuery):
    """As of the list, but in JSON, and of what can be cancelled."""

    status = OneOrSeveralField(  # type: ignore[assignment]  # other fields, of the same meaning
        child=serializers.ChoiceField(CANCELLABLE), required=False, min_length=1
    )
    mode = OneOrSeveralField(  # type: ignore[assignment]  # the same
        child=serializers.ChoiceField(Mode.choices), required=False, min_length=1
    )
    tag = OneOrSeveralField(  # type: ignore[assignment]  # the same
        child=StrictCharField(max_length=MAX_TAG),
        required=False,
        min_length=1,
        max_length=MAX_TAGS,
        help_text="Several: those that have all of them.",
    )
    user = None  # type: ignore[assignment]  # one's own

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if not attrs:
            raise serializers.ValidationError(_("Say at least one thing: all of them is never meant by nothing."))
        return super().validate(attrs)


class BulkCancelInput(StrictSerializer):
    ids = IdsField(required=False, min_length=1, max_length=MAX_ITEMS)
    filter = CancelFilter(required=False, help_text="Instead of `ids`: those of yours that fit all of it.")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if ("ids" in attrs) == ("filter" in attrs):
            message = serializers.ErrorDetail(str(_("Give either this or `filter`.")), code="required")
            raise serializers.ValidationError({"ids": [message]})
        return attrs


@extend_schema_field({"$ref": "#/components/schemas/Problem"})
class ProblemField(serializers.DictField):
    """An error, as it would be the answer to that item alone."""


class BulkSubmitItemOutput(serializers.Serializer[Any]):
    index = serializers.IntegerField(help_text="The place of the item, from 0.")
    status = serializers.IntegerField(help_text="As of an answer to that item alone: 201, or that of the error.")
    command = CommandOutput(required=False)
    error = ProblemField(required=False)


class BulkSubmitOutput(serializers.Serializer[Any]):
    results = BulkSubmitItemOutput(many=True)


class BulkCancelItemOutput(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    status = serializers.IntegerField(help_text="As of an answer to that one alone: 202, 404 or 409.")
    command = CommandOutput(required=False)
    error = ProblemField(required=False)


class BulkCancelOutput(serializers.Serializer[Any]):
    results = BulkCancelItemOutput(many=True)
    more = serializers.BooleanField(help_text="Whether further commands fit the filter: send it again.")


def item_output(outcome: Command | APIException, status: int) -> dict[str, Any]:
    """Return the answer to one of many; `status` is that of a good one."""
    if isinstance(outcome, APIException):
        return {"status": outcome.status_code, "error": problem_of(outcome)}
    return {"status": status, "command": output_of(CommandOutput, outcome)}
