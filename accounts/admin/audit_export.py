import csv
import json
from collections.abc import AsyncIterator, Iterator
from io import StringIO
from typing import Any

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.db.models import QuerySet
from django.http import HttpRequest, StreamingHttpResponse
from django.utils import timezone

from accounts.models import AuditEntry

COLUMNS = (
    "at",
    "action",
    "actor_id",
    "actor_name",
    "credential_id",
    "address",
    "request_id",
    "target_type",
    "target_id",
    "target_name",
    "changes",
    "reason",
)
_AT_A_TIME = 1000
# A spreadsheet takes a cell that begins so for a formula, and would run it.
_FORMULA = ("=", "+", "-", "@", "＝", "＋", "－", "＠")  # noqa: RUF001 - the wide forms are meant


def csv_answer(request: HttpRequest, entries: QuerySet[AuditEntry]) -> StreamingHttpResponse:
    """Return the entries as a file, the newest first, read and sent piece by piece however many there are."""
    pieces = _pieces(entries)
    # Under ASGI, Django would collect a plain iterator before it sends the first byte.
    content = _async(pieces) if isinstance(request, ASGIRequest) else pieces
    name = f"audit-{timezone.now():%Y-%m-%d}.csv"
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
    return StreamingHttpResponse(content, content_type="text/csv; charset=utf-8", headers=headers)


def _pieces(entries: QuerySet[AuditEntry]) -> Iterator[str]:
    """Page by the key: what is written meanwhile is newer than all of this."""
    yield _csv([COLUMNS])
    rest = entries.order_by("-pk")
    while page := list(rest[:_AT_A_TIME]):
        yield _csv([_cell(getattr(entry, column)) for column in COLUMNS] for entry in page)
        rest = entries.order_by("-pk").filter(pk__lt=page[-1].pk)


async def _async(pieces: Iterator[str]) -> AsyncIterator[str]:
    following = sync_to_async(lambda: next(pieces, None))
    while (piece := await following()) is not None:
        yield piece


def _csv(rows: Any) -> str:
    buffer = StringIO()
    csv.writer(buffer).writerows(rows)
    return buffer.getvalue()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False)
    text = value.isoformat() if hasattr(value, "isoformat") else str(value)
    return f"'{text}" if text.lstrip().startswith(_FORMULA) else text
