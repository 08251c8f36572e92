"""Strict input: nothing is converted silently, nothing unknown is ignored."""

import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any, ClassVar
from uuid import UUID

from django.http import QueryDict
from django.urls import get_script_prefix, reverse
from django.urls.converters import UUIDConverter
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext_lazy as _
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

MAX_JSON_DEPTH = 32
_UUID = re.compile(UUIDConverter.regex, re.ASCII | re.IGNORECASE)
YEARS = range(1971, 9999)  # of which one can count on and back
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_NO_ID = UUID(int=0)


def output_of(serializer_class: type[serializers.BaseSerializer[Any]], instance: Any) -> Any:
    """Return what `serializer_class(instance).data` would, without making its fields anew: that costs far more.

    For serializers that look at nothing but the instance.
    """
    return _made_once(serializer_class).to_representation(instance)  # type: ignore[arg-type]  # see there


@cache
def _made_once(serializer_class: Any) -> Any:  # mypy takes classes of serializers for not hashable
    return serializer_class()


def link_to(view: str, object_id: UUID) -> str:
    """Return the path of a view whose one argument is an id."""
    return _link_without_id(view, get_script_prefix()).replace(str(_NO_ID), str(object_id))


@cache
def _link_without_id(view: str, _script_prefix: str) -> str:
    return reverse(view, args=[_NO_ID])


class StrictSerializer(serializers.Serializer[Any]):
    """A serializer for input that refuses fields which it does not know."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, Mapping):
            unknown = set(data) - set(self.fields)
            if unknown:
                message = serializers.ErrorDetail(str(_("Unknown field.")), code="unknown_field")
                raise serializers.ValidationError({str(name): [message] for name in sorted(unknown)})
        return super().to_internal_value(data)


class QuerySerializer(StrictSerializer):
    """A serializer for the query of a request: every parameter has one value, unless its field takes several."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, QueryDict):
            errors = {name: [error] for name in data if (error := self._error(name, data.getlist(name)))}
            if errors:
                raise serializers.ValidationError(errors)
        return super().to_internal_value(data)

    def _error(self, name: str, values: list[str]) -> serializers.ErrorDetail | None:
        if "" in values:
            return serializers.ErrorDetail(str(_("Must not be empty.")), code="blank")
        several = serializers.MultipleChoiceField | serializers.ListField
        if len(values) > 1 and not isinstance(self.fields.get(name), several):
            return serializers.ErrorDetail(str(_("Must be given once.")), code="repeated")
        return None


class NoBody(StrictSerializer):
    """The body of a request that takes none: nothing, or an empty object."""


class PageQuery(QuerySerializer):
    """The query of a list: gateway.api.pagination checks the values."""

    limit = serializers.IntegerField(required=False, min_value=1, max_value=100, help_text="Default 25.")
    cursor = serializers.CharField(required=False)


class StrictCharField(serializers.CharField):
    """Text as it was sent: numbers are not turned into text, and blanks at the ends stay."""

    def __init__(self, **kwargs: Any) -> None:
        kwargs.setdefault("trim_whitespace", False)
        super().__init__(**kwargs)

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        return super().to_internal_value(data)

    def run_validation(self, data: Any = serializers.empty) -> Any:
        if isinstance(data, str) and not self.allow_blank and not data.strip():
            self.fail("blank")
        return super().run_validation(data)


class StrictIntegerField(serializers.IntegerField):
    """A JSON number without a fraction: neither "5" nor true."""

    def to_internal_value(self, data: Any) -> int:
        if not isinstance(data, int) or isinstance(data, bool):
            self.fail("invalid")
        return super().to_internal_value(data)


class StrictBooleanField(serializers.BooleanField):
    """true or false: neither "yes" nor 1."""

    def to_internal_value(self, data: Any) -> bool:
        if not isinstance(data, bool):
            self.fail("invalid", input=data)
        return data


@extend_schema_field({"type": "string", "format": "date-time"})
class TimeField(serializers.Field[datetime, str, str, Any]):
    """A time as RFC 3339 has it: with its offset, so that nobody has to guess where it was meant."""

    default_error_messages: ClassVar = {
        "invalid": _("Must be a time with an offset, like 2026-11-24T10:00:00Z; in a URL, + is written %2B.")
    }

    def to_internal_value(self, data: Any) -> datetime:
        try:
            moment = parse_datetime(data.upper()) if isinstance(data, str) and _TIME.fullmatch(data) else None
            if moment is not None and moment.year in YEARS:
                return moment.astimezone(UTC)
        except ValueError:  # a 31st of February
            pass
        raise serializers.ValidationError(self.error_messages["invalid"], code="invalid")

    def to_representation(self, value: datetime) -> str:
        return value.isoformat()


class StrictUUIDField(serializers.UUIDField):
    """An id as it is shown: no number, no other way to write it."""

    def to_internal_value(self, data: Any) -> Any:
        if not isinstance(data, str) or not _UUID.fullmatch(data):
            self.fail("invalid", value=data)
        return super().to_internal_value(data)


class JSONObjectField(serializers.DictField):
    """An object of any JSON, within what a database and its readers can hold."""

    default_error_messages: ClassVar = {
        "unstorable": _("Must not contain NUL characters, unpaired surrogates or numbers without a finite value."),
        "too_deep": _("Must not be nested more than {max_depth} levels deep."),
        "too_large": _("Must not be larger than {max_bytes} bytes as JSON."),
    }

    def __init__(self, *, max_bytes: int, **kwargs: Any) -> None:
        self.max_bytes = max_bytes
        super().__init__(**kwargs)

    def to_internal_value(self, data: Any) -> Any:
        if not isinstance(data, dict):
            self.fail("not_a_dict", input_type=type(data).__name__)
        self._check(data, depth=1)
        if len(json.dumps(data, ensure_ascii=False).encode()) > self.max_bytes:
            self.fail("too_large", max_bytes=self.max_bytes)
        return data

    def _check(self, value: Any, depth: int) -> None:
        if depth > MAX_JSON_DEPTH:
            self.fail("too_deep", max_depth=MAX_JSON_DEPTH)
        if isinstance(value, str):
            self._check_text(value)
        elif isinstance(value, float) and not math.isfinite(value):
            self.fail("unstorable")
        elif isinstance(value, dict):
            for key, inner in value.items():
                self._check_text(key)
                self._check(inner, depth + 1)
        elif isinstance(value, list):
            for inner in value:
                self._check(inner, depth + 1)

    def _check_text(self, text: str) -> None:
        if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
            self.fail("unstorable")
