"""Answers a POST that creates something once per `Idempotency-Key`, and then again with the same answer."""

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.http import Http404
from django.utils import timezone
from django.utils.crypto import salted_hmac
from rest_framework.exceptions import APIException
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.models import IdempotentAnswer
from gateway.api.errors import ApiError, ErrorCode
from gateway.api.idempotency import idempotency_key
from gateway.batches import delete_in_batches
from gateway.origin import network_of, origin

KEPT = timedelta(days=1)


def answer_once(request: Request, begin: Callable[[], Callable[[], Response]]) -> Response:
    """Return what is answered or, if the same client sent the same with the same key before, was answered then.

    `begin` does what takes long, outside a transaction, and returns what creates and answers, within one. Of two
    requests at once, the second waits for the first. What either refuses (APIException, Http404) is not remembered, so
    that the client can mend it and use the key again; what was written down about the refusal stays.

    Raises ApiError (idempotency_key_reused) if the key came with another body before.
    """
    key = idempotency_key(request)
    if key is None:
        return begin()()
    route = request._request.resolver_match  # noqa: SLF001 - DRF passes it on only as `parser_context`
    who = getattr(request.user, "pk", None) or network_of(origin().address)
    names = _hashed([str(who), route.view_name if route else "", key])
    before = IdempotentAnswer.objects.filter(key=names).first()
    if before is not None:
        return _again(before, request)
    create = begin()
    refusal: Exception | None = None
    with transaction.atomic():
        row, is_new = IdempotentAnswer.objects.get_or_create(key=names, defaults={"body": _hashed(request.data)})
        if not is_new:
            return _again(row, request)
        try:
            response = create()
        except (APIException, Http404) as error:
            row.delete()
            refusal = error
        else:
            row.status, row.location = response.status_code, response.headers.get("Location", "")
            row.content = JSONRenderer().render(response.data).decode()
            row.save()
    if refusal is not None:
        raise refusal
    return response


def old_answers_delete(*, batch: int = 1000) -> int:
    """Delete answers that nobody will ask for again. Return how many."""
    return delete_in_batches(IdempotentAnswer.objects.filter(created_at__lt=timezone.now() - KEPT), batch=batch)


def _again(row: IdempotentAnswer, request: Request) -> Response:
    if row.body != _hashed(request.data):
        raise ApiError(ErrorCode.IDEMPOTENCY_KEY_REUSED)
    return Response(json.loads(row.content), row.status, headers={"Location": row.location} if row.location else None)


def _hashed(value: Any) -> str:
    return salted_hmac("accounts.idempotency", json.dumps(value, sort_keys=True), algorithm="sha256").hexdigest()
