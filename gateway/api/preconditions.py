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
    media_type = request.accepted_media_type
    content: Any = request.accepted_renderer.render(data, media_type, {"request": request})
    return quote_etag(md5(content, usedforsecurity=False).hexdigest())


def require_match(request: Request, read: Callable[[], Any]) -> None:
    """Raise ApiError (precondition_failed) if the request asks for another state than what `read` returns now.

    Call it in the transaction of the change, when the row is locked; else somebody comes in between.
    """
    expected = request.headers.get("If-Match")
    if expected is None or expected.strip() == "*":
        return
    if etag_of(request, read()) not in parse_etags(expected):
        raise ApiError(ErrorCode.PRECONDITION_FAILED)
