"""Untrusted text to a mapping that everything behind can take: small, shallow, of clean text and numbers."""

import re
import sys
from collections.abc import Callable
from typing import Any, Final

from files.formats.errors import FormatError, FormatErrorCode, Location, place
from files.formats.syntax import NotParsableError, WrongSyntaxError, load_json, load_yaml

MAX_FILE_BYTES: Final = 5 * 1024 * 1024
MAX_DEPTH: Final = 64

# PostgreSQL stores these neither as text nor as jsonb, whether they stand in the file or come from an escape.
_UNSAFE_TEXT: Final = re.compile("[\0\ud800-\udfff]")


def read_json(content: str, *, not_parsable: FormatErrorCode) -> dict[str, Any]:
    return _read(content, load_json, not_parsable)


def read_json_or_yaml(content: str, *, not_parsable: FormatErrorCode) -> dict[str, Any]:
    return _read(content, _load_json_or_yaml, not_parsable)


def _load_json_or_yaml(text: str) -> Any:
    """JSON if it starts like a JSON mapping; but a YAML mapping in flow style starts so too."""
    if not text.lstrip().startswith("{"):
        return load_yaml(text)
    try:
        return load_json(text)
    except WrongSyntaxError as not_json:
        try:
            return load_yaml(text)
        except WrongSyntaxError:
            raise not_json from None


def _read(content: str, load: Callable[[str], Any], not_parsable: FormatErrorCode) -> dict[str, Any]:
    _check_text(content)
    try:
        document = load(content.removeprefix("\ufeff"))
    except NotParsableError as error:
        raise FormatError(not_parsable, str(error)) from error
    except RecursionError as error:
        raise _too_deep() from error
    if not isinstance(document, dict):
        raise FormatError(not_parsable, "The top level of the file must be a mapping.")
    _check_values(document)
    return document


def _check_text(content: str) -> None:
    if len(content.encode(errors="surrogatepass")) > MAX_FILE_BYTES:
        limit = MAX_FILE_BYTES // 1024**2
        raise FormatError(FormatErrorCode.FILE_TOO_LARGE, f"The file is larger than {limit} MiB.")
    if _UNSAFE_TEXT.search(content):
        raise _unsafe_text(())


def _check_values(document: dict[str, Any]) -> None:
    pending: list[tuple[dict[str, Any] | list[Any], Location]] = [(document, ())]
    while pending:
        container, location = pending.pop()
        if len(location) >= MAX_DEPTH:
            raise _too_deep()
        items = container.items() if isinstance(container, dict) else enumerate(container)
        for key, value in items:
            if isinstance(key, str) and _UNSAFE_TEXT.search(key):
                raise _unsafe_text((*location, key))
            if isinstance(value, dict | list):
                pending.append((value, (*location, key)))
            elif isinstance(value, str):
                if _UNSAFE_TEXT.search(value):
                    raise _unsafe_text((*location, key))
            elif value is not None and not abs(value) <= sys.float_info.max:
                raise _unsafe_number((*location, key))


def _too_deep() -> FormatError:
    message = f"The file is nested more than {MAX_DEPTH} levels deep."
    return FormatError(FormatErrorCode.FILE_TOO_COMPLEX, message)


def _unsafe_text(location: Location) -> FormatError:
    message = f"{place(location) or 'The file'}: holds NUL or half of a surrogate pair"
    return FormatError(FormatErrorCode.FILE_UNSAFE_TEXT, message)


def _unsafe_number(location: Location) -> FormatError:
    message = f"{place(location)}: is not a finite number, or too large for one"
    return FormatError(FormatErrorCode.FILE_UNSAFE_NUMBER, message)
