"""One id per request, in every answer, every log line and every call to a service."""

import logging
import re
from collections.abc import Callable
from contextvars import ContextVar

from django.http import HttpRequest, HttpResponse
from django.http.request import HttpHeaders

from gateway.ids import new_id

HEADER = "X-Request-ID"
_META_KEY = "gateway.request_id"
_META_HEADER = HttpHeaders.to_wsgi_name(HEADER)  # `request.headers` would go through all that there are
_ACCEPTED = re.compile(r"[A-Za-z0-9._:-]{1,100}")

request_id: ContextVar[str] = ContextVar("request_id", default="")


def accepted_or_new(given: str | None) -> str:
    """Return what the client gave if it is fit for logs and headers, else a new id."""
    return given if given and _ACCEPTED.fullmatch(given) else str(new_id())


class RequestIdMiddleware:
    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        request.META[_META_KEY] = accepted_or_new(request.META.get(_META_HEADER))
        token = request_id.set(request.META[_META_KEY])
        try:
            response = self.get_response(request)
            response[HEADER] = request_id.get()
            return response
        finally:
            request_id.reset(token)


class RequestIdFilter(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        # Django logs an answer of 4xx or 5xx when the middleware has already returned, but names the request.
        meta = getattr(getattr(record, "request", None), "META", {})
        record.request_id = request_id.get() or meta.get(_META_KEY, "-")
        return True
