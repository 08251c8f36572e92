"""The few harmless things the sandbox can really do, named by the first word of a task."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from integrations.sandbox.calculator import CalculationError, calculate
from integrations.sandbox.identity import utc_now
from integrations.sandbox.text import fold

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_SLEEP_SECONDS = 3600.0
_ALIASES = {"yaz": "echo", "bekle": "sleep", "hesapla": "calc"}
_FIRST_WORD = re.compile(r"\s*(\w+)(?::|(?=\s)|$)\s*")
_DURATION = re.compile(r"([0-9]{1,9}(?:[.,][0-9]{1,9})?)\s*(?:s|sn|sec|saniye|seconds?)?\.?", re.IGNORECASE)
_QUOTES = {'"': '"', "'": "'", "“": "”"}


class ActionError(Exception):
    """The action was understood and did not work out; the message is the reason."""


@dataclass(frozen=True)
class Action:
    name: str
    argument: str


def find_action(text: str) -> Action | None:
    """Read the action a text begins with: ``echo Merhaba`` -> ``Action("echo", "Merhaba")``."""
    match = _FIRST_WORD.match(text)
    if match is None:
        return None
    word = fold(match[1])
    name = _ALIASES.get(word, word)
    argument = text[match.end() :].strip()
    if name not in ACTION_NAMES or (name == "date" and argument):
        return None  # "date the letter" is a wish nobody here can fulfil, not a question for the time
    return Action(name, argument)


def sleep_seconds(argument: str) -> float:
    match = _DURATION.fullmatch(argument.strip())
    if match is None:
        raise ActionError(f"sleep needs a number of seconds, not {argument[:50]!r}")
    return min(float(match[1].replace(",", ".")), MAX_SLEEP_SECONDS)


def perform(action: Action) -> str:
    """Do an action that takes no time, and return its output."""
    return _INSTANT[action.name](_unquote(action.argument))


def _unquote(argument: str) -> str:
    """Take off the quotes around the whole argument; quotes within it are the user's own."""
    if len(argument) > 1 and _QUOTES.get(argument[0]) == argument[-1]:
        inner = argument[1:-1]
        if argument[0] not in inner and argument[-1] not in inner:
            return inner
    return argument


def _calc(argument: str) -> str:
    try:
        return calculate(argument)
    except CalculationError as error:
        raise ActionError(f"cannot calculate {argument[:50]!r}: {error}") from error


def _count(argument: str) -> str:
    return f"{len(argument.split())} words, {len(argument)} characters"


def _fail(argument: str) -> str:
    raise ActionError(argument or "failed as asked")


_INSTANT: dict[str, Callable[[str], str]] = {
    "echo": str,
    "calc": _calc,
    "upper": str.upper,
    "lower": str.lower,
    "reverse": lambda argument: argument[::-1],
    "count": _count,
    "date": lambda _: utc_now(),
    "fail": _fail,
}
ACTION_NAMES = frozenset(_INSTANT) | {"sleep"}
