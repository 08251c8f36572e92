from collections.abc import Iterable
from typing import Any

from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request


class AnyAccept(BaseContentNegotiation):
    """For downloads: there is one representation, whatever the client says it accepts. Errors are JSON."""

    def select_parser(self, request: Request, parsers: Iterable[BaseParser]) -> BaseParser | None:
        return next(iter(parsers), None)

    def select_renderer(
        self, request: Request, renderers: Iterable[BaseRenderer], format_suffix: str | None = None
    ) -> tuple[BaseRenderer, Any]:
        only = next(iter(renderers))
        return only, only.media_type


class CsvRenderer(JSONRenderer):
    """Lets a client ask for `text/csv`. The view makes the file (gateway.api.csv_file); a problem is JSON even so."""

    media_type = "text/csv"
    format = "csv"
