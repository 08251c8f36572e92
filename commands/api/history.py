"""Lists of commands in both of their forms: pages, and one file."""

from typing import Any

from django.http import StreamingHttpResponse
from django.utils import timezone
from django.utils.translation import gettext as _
from rest_framework.exceptions import ErrorDetail, ValidationError
from rest_framework.request import Request
from rest_framework.views import APIView

from commands.history import CommandHistory
from gateway.api.csv_file import csv_answer
from gateway.api.pagination import KeysetPagination

COLUMNS = (
    "id",
    "user_id",
    "text",
    "mode",
    "persona",
    "priority",
    "tags",
    "status",
    "progress",
    "created_at",
    "started_at",
    "finished_at",
    "error_code",
    "error_stage",
    "retry_of_id",
)


class HistoryPagination(KeysetPagination):
    """Pages in the order of the history itself."""

    def get_ordering(self, _request: Request, queryset: Any, _view: APIView) -> tuple[str]:
        return (queryset.ordering,)


def history_as_csv(request: Request, history: CommandHistory, query: dict[str, Any]) -> StreamingHttpResponse:
    """Return all of it as a file. Raises ValidationError if a page was asked for."""
    of_a_page = [name for name in ("limit", "cursor") if name in query]
    if of_a_page:
        error = ErrorDetail(_("A file has no pages: leave this out."), code="invalid")
        raise ValidationError({name: [error] for name in of_a_page})
    name = f"commands-{timezone.now():%Y-%m-%d}.csv"
    return csv_answer(request._request, name=name, columns=COLUMNS, pieces=history.pieces())  # noqa: SLF001 - DRF's own wraps it
