"""A short way for the two calls that are made most, `GET commands/{id}` and `POST commands`.

It takes the ordinary, good request and nothing else. For all that is in any way special it returns nothing, and the
request goes on to the DRF view, which alone says what is allowed and how it is refused. What both answer is the same,
headers included (commands/tests/test_fast_lane.py), so this can be taken out of MIDDLEWARE at any time.

It stands behind the middleware that every answer passes (its id, its origin, TLS) and before those that an answer of
the API needs little of: what they would add is added here.
"""

import re
from collections.abc import Callable
from functools import cache
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.db import DatabaseError
from django.http import Http404, HttpRequest, HttpResponse, UnreadablePostError
from django.urls.converters import UUIDConverter
from django.utils import translation
from django.utils.cache import get_conditional_response, set_response_etag
from rest_framework.exceptions import APIException
from rest_framework.renderers import JSONRenderer

from accounts.sign_in import API_KEY_START, remembered_sign_in
from commands import kept_answers
from commands.api.plain_body import MAX_BYTES, plain_values
from commands.api.serializers import CommandOutput
from commands.api.views import CommandListView, CommandView
from commands.models import Command
from commands.selectors import command_get
from commands.services import as_submitted, command_store
from gateway.api.permissions import may_use
from gateway.api.serializers import output_of
from gateway.api.views import ApiView

LIST_PATH = "/api/v2/commands"
_COMMAND_PATH = re.compile(rf"{LIST_PATH}/({UUIDConverter.regex})")
_ACCEPTED = (None, "*/*", "application/json", "application/json, text/plain, */*")
_JSON = ("application/json", "application/json; charset=utf-8", "application/json;charset=UTF-8")
# What makes a request special, whatever it says.
_SPECIAL = ("HTTP_IDEMPOTENCY_KEY", "HTTP_TRANSFER_ENCODING")
_BEARER = re.compile(r"Bearer ([\w.-]+)")


class FastLaneMiddleware:
    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        try:
            response = _answer(request)
        except (APIException, Http404, DisallowedHost, UnreadablePostError):  # nothing has been changed
            response = None
        return self.get_response(request) if response is None else response


def _answer(request: HttpRequest) -> HttpResponse | None:
    meta, path = request.META, request.path_info
    if not path.startswith(LIST_PATH) or any(name in meta for name in _SPECIAL):
        return None
    if meta.get("QUERY_STRING") or meta.get("HTTP_COOKIE"):
        return None
    bearer = _BEARER.fullmatch(meta.get("HTTP_AUTHORIZATION", ""))
    if bearer is None or bearer[1].startswith(API_KEY_START) or meta.get("HTTP_ACCEPT") not in _ACCEPTED:
        return None
    request.get_host()
    language = translation.get_language_from_request(request)
    translation.activate(language)
    if request.method == "POST" and path == LIST_PATH:
        response = _post(request, bearer[1])
    elif request.method == "GET" and (named := _COMMAND_PATH.fullmatch(path)):
        response = _get(request, bearer[1], UUID(named[1]), language)
    else:
        return None
    if response is not None:
        response.headers["Vary"] = "Accept-Language"
        response.headers["Content-Language"] = language
    return response


# --- GET ------------------------------------------------------------------------------------------------------------


def _get(request: HttpRequest, token: str, command_id: UUID, language: str) -> HttpResponse | None:
    found = remembered_sign_in(token, kept_answers.key_of(command_id))
    if found is None or not may_use(CommandView, "GET", found[0], route="command"):
        return None
    sign_in, kept = found
    begins = f"{command_id} {sign_in.user.pk} {language}\n".encode()  # what it is, for whom, and in which language
    if kept.startswith(begins):
        content = kept[len(begins) :]
    else:
        try:
            command = command_get(user=sign_in.user, command_id=command_id)
        except DatabaseError:
            return None  # it is the view that fails
        content = _rendered(output_of(CommandOutput, command))
        if command.has_ended:
            kept_answers.keep(command_id, begins + content)
    response = _response(CommandView, content)
    set_response_etag(response)
    return get_conditional_response(request, etag=response["ETag"], response=response)


# --- POST -----------------------------------------------------------------------------------------------------------


def _post(request: HttpRequest, token: str) -> HttpResponse | None:
    values = _plain_values(request)
    found = remembered_sign_in(token) if values is not None else None
    if values is None or found is None or not may_use(CommandListView, "POST", found[0], route="commands"):
        return None
    command = command_store(Command(user=found[0].user, **values))
    output = output_of(CommandOutput, as_submitted(command))
    return _response(CommandListView, _rendered(output), status=201, location=output["links"]["self"])


def _plain_values(request: HttpRequest) -> dict[str, Any] | None:
    if request.META.get("CONTENT_TYPE") not in _JSON:
        return None
    length = request.META.get("CONTENT_LENGTH") or ""
    if not (length.isdecimal() and int(length) <= MAX_BYTES):
        return None
    return plain_values(request.body)


# --- Both -----------------------------------------------------------------------------------------------------------


def _rendered(output: Any) -> bytes:
    content: bytes = JSONRenderer().render(output)
    return content


def _response(view: type[ApiView], content: bytes, *, status: int = 200, location: str | None = None) -> HttpResponse:
    headers = {
        "Content-Type": "application/json",
        **({"Location": location} if location else {}),
        "Allow": _allowed(view),
        "Cache-Control": "private, no-cache",
        "X-Frame-Options": settings.X_FRAME_OPTIONS,
        "Content-Length": str(len(content)),
    }
    return HttpResponse(content, status=status, headers=headers)


@cache
def _allowed(view_class: type[ApiView]) -> str:
    view = view_class()
    view.setup(HttpRequest())
    return ", ".join(view.allowed_methods)
