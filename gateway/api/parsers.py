import json
from collections.abc import Mapping
from typing import IO, Any, NoReturn

from django.conf import settings
from django.utils.translation import gettext as _
from rest_framework.exceptions import ParseError
from rest_framework.parsers import BaseParser

from gateway.api.errors import ApiError, ErrorCode


class StrictJSONParser(BaseParser):
    """RFC 8259 JSON in UTF-8. Refuses NaN and Infinity, what is nested too deep to parse, and what is too long."""

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
            return json.loads(body.decode("utf-8"), parse_constant=_refuse_constant)
        except RecursionError as error:
            raise ParseError(_("The JSON is nested too deeply.")) from error
        except json.JSONDecodeError as error:
            raise ParseError(_("The body is not valid JSON: %(cause)s") % {"cause": error}) from error
        except ValueError as error:  # not UTF-8, or a number too long to convert
            raise ParseError from error


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")
