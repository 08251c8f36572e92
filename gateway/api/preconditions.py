"""`If-Match` (RFC 9110, 13.1.1): change something only if it is still as it was read."""

from collections.abc import Callable
from hashlib import md5
from typing import Any

from django.utils.http import parse_etags, quote_etag
from drf_spectacular.utils import OpenApiParameter
from rest_framework.request import Request

from gateway.api.errors import ApiError, ErrorCode

IF_MATCH = OpenApiParameter(
    "If-Match", str, OpenApiParameter.HEADER, description="The ETag that was read: 412 if it was changed meanwhile."
)


def etag_of(request: Request, data: Any) -> str:
    """Return the ETag of an answer with this body: the same that Django's ConditionalGetMiddleware gives to a GET."""
    return quote_etag(_digest(request, data))


def etag_of_living(request: Request, data: Any, editable: Any) -> str:
    """Return the ETag of an answer of which a part changes by itself: `If-Match` heeds only what can be edited."""
    return quote_etag(f"{_digest(request, editable)}.{_digest(request, data)}")


def require_match(request: Request, read: Callable[[], Any]) -> None:
    """Raise ApiError (precondition_failed) if the request asks for another state than what `read` returns now.

    Call it in the transaction of the change, when the row is locked; else somebody comes in between.
    """
    expected = request.headers.get("If-Match")
    if expected is None or expected.strip() == "*":
        return
    if etag_of(request, read()) not in parse_etags(expected):
        raise ApiError(ErrorCode.PRECONDITION_FAILED)


def require_match_of_living(request: Request, read_editable: Callable[[], Any]) -> None:
    """The same for an ETag that etag_of_living made."""
    expected = request.headers.get("If-Match")
    if expected is None or expected.strip() == "*":
        return
    now = _digest(request, read_editable())
    if now not in {tag.strip('"').partition(".")[0] for tag in parse_etags(expected)}:
        raise ApiError(ErrorCode.PRECONDITION_FAILED)


def _digest(request: Request, data: Any) -> str:
    content: Any = request.accepted_renderer.render(data, request.accepted_media_type, {"request": request})
    return md5(content, usedforsecurity=False).hexdigest()
