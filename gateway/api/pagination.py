import re
from typing import Any

from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _
from rest_framework import exceptions
from rest_framework.pagination import Cursor, CursorPagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

_PAGE_SIZE = re.compile(r"[1-9][0-9]?|100")


class KeysetPagination(CursorPagination):
    """Pages by key (`?limit=`, `?cursor=`): no OFFSET and no COUNT, so page 1,000 costs what page 1 costs."""

    page_size = 25
    max_page_size = 100
    page_size_query_param = "limit"
    ordering = "-id"

    def paginate_queryset(self, queryset: Any, request: Request, view: APIView | None = None) -> list[Any] | None:
        try:
            return super().paginate_queryset(queryset, request, view)
        except (exceptions.NotFound, ValidationError, ValueError) as error:
            raise exceptions.ValidationError(
                {"cursor": [exceptions.ErrorDetail(str(_("Invalid cursor.")), code="invalid")]}
            ) from error

    def decode_cursor(self, request: Request) -> Cursor | None:
        cursor: Cursor | None = super().decode_cursor(request)
        # DRF takes what it cannot read for the first page; and no database can look for what is not text.
        if cursor is not None and not (cursor.position and str(cursor.position).isprintable()):
            raise exceptions.NotFound
        return cursor

    def get_page_size(self, request: Request) -> int:
        given = request.query_params.get(self.page_size_query_param)
        if given is None:
            return self.page_size
        if not _PAGE_SIZE.fullmatch(given):
            raise exceptions.ValidationError(
                {"limit": [exceptions.ErrorDetail(str(_("Must be a number from 1 to 100.")), code="invalid")]}
            )
        return int(given)

    def get_paginated_response(self, data: Any) -> Response:
        return Response({"results": data, "next": self.get_next_link(), "previous": self.get_previous_link()})
