"""Strict input: nothing is converted silently, nothing unknown is ignored."""

import json
import math
import re
from collections.abc import Mapping
from typing import Any, ClassVar

from django.http import QueryDict
from django.utils.translation import gettext_lazy as _
from rest_framework import serializers

MAX_JSON_DEPTH = 32
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", re.ASCII | re.IGNORECASE)


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


class StrictDateTimeField(serializers.DateTimeField):
    """A time with its offset (RFC 3339): without one, nobody can say which moment is meant."""

    default_error_messages: ClassVar = {
        "not_rfc_3339": _("Must be a time with an offset, such as 2026-11-23T06:37:56Z.")
    }

    def to_internal_value(self, value: Any) -> Any:
        if not isinstance(value, str) or not _TIME.fullmatch(value):
            self.fail("not_rfc_3339")
        return super().to_internal_value(value.upper())


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
