"""What a list of commands can be asked for."""

from typing import Any

from django.utils.translation import gettext_lazy as _
from rest_framework import serializers

from accounts.requests import SignedInRequest
from commands.api.serializers import PersonaField, TagsField
from commands.history import CommandFilters, CommandHistory, command_history
from commands.models import Mode
from commands.search import SEARCHABLE
from commands.states import Status
from gateway.api.errors import ApiError, ErrorCode
from gateway.api.serializers import PageQuery, QuerySerializer, StrictCharField, StrictUUIDField, TimeField

ALL_COMMANDS = "commands.view_command"  # Django's own: of anybody's commands, as in the admin pages
MAX_SEARCH = 100


class SeveralChoicesField(serializers.MultipleChoiceField):
    """`?status=failed&status=cancelled` or `?status=failed,cancelled`."""

    def get_value(self, dictionary: Any) -> Any:
        given = dictionary.getlist(self.field_name)
        return [part for value in given for part in value.split(",")] if given else serializers.empty


class FilterQuery(QuerySerializer):
    """Which commands are asked for."""

    status = SeveralChoicesField(choices=Status.choices, required=False)
    mode = SeveralChoicesField(choices=Mode.choices, required=False)
    persona = PersonaField(required=False)
    tag = TagsField(required=False, help_text="Several: those that have all of them.")
    created_after = TimeField(required=False, help_text="Made then or later.")
    created_before = TimeField(required=False, help_text="Made before.")
    q = StrictCharField(
        required=False,
        max_length=MAX_SEARCH,
        help_text="Part of the text, with at least three letters or digits in a row. `I`, `ı`, `İ` and `i` are alike, "
        "as are capitals and small letters, and `ş` and `s`, `ç` and `c`, `ğ` and `g`, `ö` and `o`, `ü` and `u`.",
    )
    user = StrictUUIDField(required=False, help_text=f"The commands of another; needs `{ALL_COMMANDS}`.")

    def validate_q(self, text: str) -> str:
        if not SEARCHABLE.search(text):
            raise serializers.ValidationError(_("Must have at least three letters or digits in a row."))
        return text

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        after, before = attrs.get("created_after"), attrs.get("created_before")
        if after is not None and before is not None and after >= before:
            raise serializers.ValidationError({"created_before": [_("Must be later than `created_after`.")]})
        return attrs


class CommandQuery(FilterQuery, PageQuery):
    ordering = serializers.ChoiceField(("created_at", "-created_at"), default="-created_at")


def filters_of(query: dict[str, Any]) -> CommandFilters:
    return CommandFilters(
        status=frozenset(query.get("status", ())),
        mode=frozenset(query.get("mode", ())),
        persona=query.get("persona", ""),
        tags=frozenset(query.get("tag", ())),
        text=query.get("q", ""),
        created_after=query.get("created_after"),
        created_before=query.get("created_before"),
    )


def require_for_others(request: SignedInRequest, whose: object) -> None:
    """Raise ApiError (permission_denied) if it is about others and the caller may not see their commands."""
    if whose != request.user.pk and not request.auth.allows(ALL_COMMANDS):
        raise ApiError(ErrorCode.PERMISSION_DENIED, permission=ALL_COMMANDS)


def history_asked_for(request: SignedInRequest, query: dict[str, Any]) -> CommandHistory:
    """Return the commands that a CommandQuery asks for, in its order. Raises ApiError (permission_denied)."""
    whose = query.get("user", request.user.pk)
    require_for_others(request, whose)
    # The ids are in the order of the creation.
    return command_history(user_id=whose, filters=filters_of(query)).order_by(
        query["ordering"].replace("created_at", "id")
    )
