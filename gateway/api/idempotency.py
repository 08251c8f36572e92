"""The header `Idempotency-Key`: a client that got no answer sends the same again, and nothing happens twice."""

from django.utils.translation import gettext as _
from drf_spectacular.utils import OpenApiParameter
from rest_framework import exceptions
from rest_framework.request import Request

MAX_LENGTH = 255

IDEMPOTENCY_KEY = OpenApiParameter(
    "Idempotency-Key", str, OpenApiParameter.HEADER, description="Same key and body, same answer; up to 255 characters."
)


def idempotency_key(request: Request) -> str | None:
    """Return the header, None if there is none. Raises ValidationError if it is not fit to be one."""
    key = request.headers.get("Idempotency-Key")
    if key is not None and not (0 < len(key) <= MAX_LENGTH and key.isascii() and key.isprintable()):
        raise exceptions.ValidationError({"Idempotency-Key": [_("Must be 1 to 255 printable ASCII characters.")]})
    return key
