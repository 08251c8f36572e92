"""CSV files for spreadsheets, read and sent piece by piece however long they are."""

import csv
import json
import re
from collections.abc import AsyncIterator, Iterable, Iterator
from io import StringIO
from typing import Any

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpRequest, StreamingHttpResponse

# A spreadsheet takes a cell that begins so for a formula, and would run it; the wide forms too, and some after what is
# not seen: blanks, controls, marks of direction or width.
_UNSEEN = r"[\s\x00-\x1f\x7f-\x9f\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff]"
_FORMULA = re.compile(rf"{_UNSEEN}*[-=+@＝＋－＠]")  # noqa: RUF001 - the wide forms are meant


def csv_answer(
    request: HttpRequest, *, name: str, columns: tuple[str, ...], pieces: Iterable[Iterable[Any]]
) -> StreamingHttpResponse:
    """Return these attributes of the objects as a file of that name; a piece is sent as soon as it is there."""
    content = _lines(columns, pieces)
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
    return StreamingHttpResponse(
        # Under ASGI, Django would collect a plain iterator before it sends the first byte.
        _async(content) if isinstance(request, ASGIRequest) else content,
        content_type="text/csv; charset=utf-8",
        headers=headers,
    )


def _lines(columns: tuple[str, ...], pieces: Iterable[Iterable[Any]]) -> Iterator[str]:
    yield _csv([columns])
    for piece in pieces:
        text = _csv([_cell(getattr(each, column)) for column in columns] for each in piece)
        if text:
            yield text


async def _async(lines: Iterator[str]) -> AsyncIterator[str]:
    following = sync_to_async(lambda: next(lines, None))
    while (text := await following()) is not None:
        yield text


def _csv(rows: Iterable[Iterable[Any]]) -> str:
    buffer = StringIO()
    csv.writer(buffer).writerows(rows)
    return buffer.getvalue()


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    text = value.isoformat() if hasattr(value, "isoformat") else str(value)
    return f"'{text}" if _FORMULA.match(text) else text
