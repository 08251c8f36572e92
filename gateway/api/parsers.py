import json
from collections import Counter
from collections.abc import Mapping
from typing import IO, Any, NoReturn

from django.conf import settings
from django.utils.translation import gettext as _
from rest_framework.exceptions import ErrorDetail, ParseError, ValidationError
from rest_framework.parsers import BaseParser

from gateway.api.errors import ApiError, ErrorCode


class StrictJSONParser(BaseParser):
    """RFC 8259 JSON in UTF-8. Refuses NaN and Infinity, a name twice in an object, and what is too deep or too long."""

    media_type = "application/json"

    @property
    def max_bytes(self) -> int:
        """The longest body that is read at all."""
        return int(settings.MAX_BODY_BYTES)

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        body = stream.read(self.max_bytes + 1)
        if len(body) > self.max_bytes:
            raise ApiError(ErrorCode.BODY_TOO_LARGE)
        try:
            return read_json(body)
        except RecursionError as error:
            raise ParseError(_("The JSON is nested too deeply.")) from error
        except json.JSONDecodeError as error:
            raise ParseError(_("The body is not valid JSON: %(cause)s") % {"cause": error}) from error
        except ValueError as error:  # not UTF-8, or a number too long to convert
            raise ParseError from error


def read_json(body: bytes) -> Any:
    """Raises ValueError, RecursionError, ValidationError (a name that is there twice)."""
    return json.loads(body.decode("utf-8"), parse_constant=_refuse_constant, object_pairs_hook=_object)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the object. Raises ValidationError if a name is there twice: whatever was taken, one would be ignored."""
    members = dict(pairs)
    if len(members) < len(pairs):
        times = Counter(name for name, _value in pairs)
        message = ErrorDetail(_("Must be given once."), code="repeated")
        raise ValidationError({name: [message] for name in members if times[name] > 1})
    return members


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")
