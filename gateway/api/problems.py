"""Errors as RFC 9457 problem details, the same for every way in which a request can fail."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import wraps
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.views import defaults
from django.views.decorators.csrf import csrf_exempt
from rest_framework import exceptions
from rest_framework.response import Response
from rest_framework.views import set_rollback

from gateway.api.errors import CATALOGUE, ApiError, ErrorCode
from gateway.request_id import request_id

CONTENT_TYPE = "application/problem+json"


_CODE_OF: dict[type[exceptions.APIException], ErrorCode] = {
    exceptions.ValidationError: ErrorCode.VALIDATION_ERROR,
    exceptions.ParseError: ErrorCode.MALFORMED_BODY,
    exceptions.NotAuthenticated: ErrorCode.NOT_AUTHENTICATED,
    exceptions.AuthenticationFailed: ErrorCode.TOKEN_INVALID,
    exceptions.PermissionDenied: ErrorCode.PERMISSION_DENIED,
    exceptions.NotFound: ErrorCode.NOT_FOUND,
    exceptions.MethodNotAllowed: ErrorCode.METHOD_NOT_ALLOWED,
    exceptions.NotAcceptable: ErrorCode.NOT_ACCEPTABLE,
    exceptions.UnsupportedMediaType: ErrorCode.UNSUPPORTED_MEDIA_TYPE,
}

# RFC 9110, 15.5.2 and 15.6.4.
_HEADERS_OF = {401: {"WWW-Authenticate": "Bearer"}, 503: {"Retry-After": "5"}}


def problem(code: ErrorCode, detail: str | None = None, errors: list[dict[str, str]] | None = None) -> dict[str, Any]:
    """Return the body of an error (RFC 9457 and the members that contract v2 adds)."""
    body: dict[str, Any] = {
        "type": f"/api-docs/errors#{code}",
        "title": str(CATALOGUE[code].title),
        "status": CATALOGUE[code].status,
        "detail": detail or str(CATALOGUE[code].title),
        "code": str(code),
        "request_id": request_id.get(),
    }
    if errors is not None:
        body["errors"] = errors
    return body


def field_errors(details: Any, path: str = "") -> Iterator[dict[str, str]]:
    """Yield every error of DRF's nested details as one flat row with a dotted path to the field."""
    if isinstance(details, Mapping) and "message" in details and "code" in details and len(details) == 2:  # noqa: PLR2004 - DRF's ErrorDetail has just these two
        yield {
            "field": _encodable(path or "body"),
            "code": str(details["code"]),
            "detail": _encodable(str(details["message"])),
        }
    elif isinstance(details, Mapping):
        for name, inner in details.items():
            own = "" if name == "non_field_errors" else str(name)
            yield from field_errors(inner, ".".join(filter(None, (path, own))))
    elif isinstance(details, Sequence):
        for inner in details:
            yield from field_errors(inner, path)


def _encodable(text: str) -> str:
    """Return text that repeats what a client sent, fit for UTF-8: JSON can hold half of a surrogate pair."""
    return text.encode(errors="replace").decode()


def exception_handler(exc: Exception, _context: Mapping[str, Any]) -> Response | None:
    """DRF's EXCEPTION_HANDLER: an expected error becomes a problem, any other goes on to Django's 500."""
    if isinstance(exc, Http404):
        exc = exceptions.NotFound()
    elif isinstance(exc, PermissionDenied):
        exc = exceptions.PermissionDenied()
    if not isinstance(exc, exceptions.APIException):
        return None
    set_rollback()
    body = problem_of(exc)
    headers = dict(_HEADERS_OF.get(body["status"], {}))
    if isinstance(exc, ApiError) and exc.retry_after is not None:
        headers["Retry-After"] = str(exc.retry_after)
    return Response(body, status=body["status"], headers=headers, content_type=CONTENT_TYPE)


def problem_of(exc: exceptions.APIException) -> dict[str, Any]:
    """Return the body of an answer with this error."""
    if isinstance(exc, ApiError):
        body = problem(exc.error_code, str(exc.detail))
        return body | {"permission": exc.permission} if exc.permission else body
    if isinstance(exc, exceptions.ValidationError):
        return problem(ErrorCode.VALIDATION_ERROR, errors=list(field_errors(exc.get_full_details())))
    code = next((code for kind, code in _CODE_OF.items() if isinstance(exc, kind)), ErrorCode.BAD_REQUEST)
    # DRF's own sentence for these names the method or media type; for the others ours says more.
    keeps_detail = (exceptions.ParseError, exceptions.MethodNotAllowed, exceptions.UnsupportedMediaType)
    return problem(code, str(exc.detail) if isinstance(exc, keeps_detail) else None)


def _outside_drf(code: ErrorCode) -> HttpResponse:
    return JsonResponse(problem(code), status=CATALOGUE[code].status, content_type=CONTENT_TYPE)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    return defaults.bad_request(request, exception) if _is_admin(request) else _outside_drf(ErrorCode.BAD_REQUEST)


def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponse:
    if _is_admin(request):
        return defaults.permission_denied(request, exception)
    return _outside_drf(ErrorCode.PERMISSION_DENIED)


def page_not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    return defaults.page_not_found(request, exception) if _is_admin(request) else _outside_drf(ErrorCode.NOT_FOUND)


def server_error(request: HttpRequest) -> HttpResponse:
    return defaults.server_error(request) if _is_admin(request) else _outside_drf(ErrorCode.INTERNAL_ERROR)


def safe_methods_only(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """Decorate a view outside DRF: any method but GET and HEAD is answered with a problem, and not with one of CSRF."""

    @csrf_exempt
    @wraps(view)
    def wrapper(request: HttpRequest, **kwargs: Any) -> HttpResponse:
        if request.method in ("GET", "HEAD"):
            return view(request, **kwargs)
        response = _outside_drf(ErrorCode.METHOD_NOT_ALLOWED)
        response["Allow"] = "GET, HEAD"
        return response

    return wrapper


def _is_admin(request: HttpRequest) -> bool:
    return request.path.startswith("/admin/")
