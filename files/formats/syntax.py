"""JSON and YAML text to plain data, without what makes either dangerous.

YAML is built straight from the parser's events: no tag can construct an object, no alias can multiply
content, and a plain scalar means what JSON makes of it: dates, `yes`, `12:30` and `007` stay text.
"""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

import yaml

from files.formats.errors import FormatError, FormatErrorCode, quote

# Enough for 1,000 tasks of 200 values; an event costs far more time than a value of JSON.
MAX_YAML_EVENTS: Final = 250_000
_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

# Nothing that PyYAML reads as text: it writes the id 12e4567 without quotes, and text it must stay.
_NULL: Final = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLEAN: Final = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INTEGER: Final = re.compile(r"-?(0|[1-9][0-9]*)")
_FLOAT: Final = re.compile(r"-?(0|[1-9][0-9]*)\.[0-9]*([eE][-+][0-9]+)?")
_NOT_FINITE: Final = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


class NotParsableError(Exception):
    """The text holds no data the gateway takes; the message tells why."""


class WrongSyntaxError(NotParsableError):
    """The text is not written in this syntax; it may be in another."""


def load_json(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_mapping)
    except json.JSONDecodeError as error:
        problem = f"{error.msg} (line {error.lineno}, column {error.colno})"
        raise WrongSyntaxError(f"The file is not JSON: {problem}.") from error
    except ValueError as error:
        raise _number_too_long() from error


def load_yaml(text: str) -> Any:
    events = _yaml_events(text)
    try:
        event = next(events, None)
        value = None if event is None else _yaml_value(event, events)
        if next(events, None) is not None:
            raise NotParsableError("The file holds several YAML documents; one is expected.")
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        raise WrongSyntaxError(f"The file is not YAML: {error.problem}{where}.") from error
    except yaml.YAMLError as error:
        raise WrongSyntaxError("The file is not YAML: it holds a character that YAML does not allow.") from error
    return value


def _yaml_events(text: str) -> Iterator[yaml.Event]:
    """Only the events that carry data; those that make YAML dangerous are refused here."""
    for number, event in enumerate(yaml.parse(text, Loader=_LOADER)):
        if number > MAX_YAML_EVENTS:
            raise FormatError(FormatErrorCode.FILE_TOO_COMPLEX, "The file holds too many values for a YAML file.")
        if getattr(event, "anchor", None) is not None:
            raise NotParsableError(f"{_line(event)}: YAML anchors and aliases are not accepted.")
        if getattr(event, "tag", None) is not None:
            raise NotParsableError(f"{_line(event)}: YAML tags are not accepted.")
        if isinstance(event, yaml.NodeEvent | yaml.CollectionEndEvent):
            yield event


def _yaml_value(event: yaml.Event, events: Iterator[yaml.Event]) -> Any:
    if isinstance(event, yaml.ScalarEvent):
        return _yaml_plain_scalar(event.value) if event.implicit[0] else event.value
    if isinstance(event, yaml.SequenceStartEvent):
        return [_yaml_value(item, events) for item in _until(yaml.SequenceEndEvent, events)]
    return _mapping(_yaml_pairs(events))


def _yaml_pairs(events: Iterator[yaml.Event]) -> list[tuple[str, Any]]:
    pairs = []
    for key in _until(yaml.MappingEndEvent, events):
        if not isinstance(key, yaml.ScalarEvent):
            raise NotParsableError(f"{_line(key)}: a key must be text.")
        pairs.append((key.value, _yaml_value(next(events), events)))
    return pairs


def _until(end: type[yaml.Event], events: Iterator[yaml.Event]) -> Iterator[yaml.Event]:
    for event in events:
        if isinstance(event, end):
            return
        yield event


def _yaml_plain_scalar(text: str) -> str | float | bool | None:
    if text in _NULL:
        return None
    if text in _BOOLEAN:
        return _BOOLEAN[text]
    if _INTEGER.fullmatch(text):
        try:
            return int(text)
        except ValueError as error:
            raise _number_too_long() from error
    if _FLOAT.fullmatch(text):
        return float(text)
    if _NOT_FINITE.fullmatch(text):
        return float(text.replace(".", ""))
    return text


def _mapping(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Of a key given twice, one reader sees the first value and the next reader the last: refused."""
    mapping: dict[str, Any] = {}
    for key, value in pairs:
        if key in mapping:
            raise NotParsableError(f"The key {quote(key)} stands twice in one mapping.")
        mapping[key] = value
    return mapping


def _line(event: yaml.Event) -> str:
    return f"line {event.start_mark.line + 1}" if event.start_mark else "YAML"


def _number_too_long() -> FormatError:
    return FormatError(FormatErrorCode.FILE_UNSAFE_NUMBER, "The file holds a number that is too large.")
