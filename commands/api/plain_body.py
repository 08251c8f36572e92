"""Bodies of `POST commands` that are plainly good: read without a serializer, which costs far more than all else.

Everything that is not plain is for CommandInput to judge, which stays the one that says what is allowed. Whatever is
taken here, it takes too, and makes the same of it (commands/tests/test_plain_body.py).
"""

from collections.abc import Callable
from typing import Any

from commands.api.serializers import MAX_TAG, MAX_TAGS, MAX_TEXT, PERSONA
from commands.models import MAX_PERSONA, Mode, Priority
from gateway.api.parsers import read_json

MAX_BYTES = 16 * 1024  # so no object in it can be too large
MAX_INTEGER = 2**53


def plain_values(body: bytes) -> dict[str, Any] | None:
    """Return the values of a command with this body, as CommandInput would; None if that is to be asked."""
    if len(body) > MAX_BYTES:
        return None
    try:
        given = read_json(body)
    except (ValueError, RecursionError):
        return None
    if not isinstance(given, dict) or "text" not in given or not given.keys() <= _IS_PLAIN.keys():
        return None
    if not all(_IS_PLAIN[name](value) for name, value in given.items()):
        return None
    return {**_defaults(), **given}


def _defaults() -> dict[str, Any]:
    return {
        "mode": Mode.NORMAL,
        "persona": "technical_expert",
        "metadata": {},
        "priority": Priority.NORMAL,
        "parameters": {},
        "tags": [],
    }


def _is_text(value: Any, longest: int = MAX_BYTES) -> bool:
    return isinstance(value, str) and len(value) <= longest and "\0" not in value and not _has_surrogates(value)


def _has_surrogates(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _says_something(value: Any, longest: int) -> bool:
    return _is_text(value, longest) and bool(value.strip())


def _is_persona(value: Any) -> bool:
    return _is_text(value, MAX_PERSONA) and PERSONA.fullmatch(value) is not None


def _are_tags(value: Any) -> bool:
    is_list = isinstance(value, list) and len(value) <= MAX_TAGS
    return is_list and all(_says_something(tag, MAX_TAG) for tag in value) and len(set(value)) == len(value)


def _is_flat(value: Any) -> bool:
    return isinstance(value, dict) and all(_is_text(name) and _is_scalar(inner) for name, inner in value.items())


def _is_scalar(value: Any) -> bool:
    return value is None or _is_text(value) or (isinstance(value, int) and abs(value) < MAX_INTEGER)


_IS_PLAIN: dict[str, Callable[[Any], bool]] = {
    "text": lambda value: _says_something(value, MAX_TEXT),
    "mode": lambda value: _is_text(value) and value in Mode.values,
    "persona": _is_persona,
    "metadata": _is_flat,
    "priority": lambda value: _is_text(value) and value in Priority.values,
    "parameters": _is_flat,
    "tags": _are_tags,
}
