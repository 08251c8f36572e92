"""What can be wrong with a file, as a stable code and a sentence that names the place."""

from enum import StrEnum
from typing import Final, TypeAlias

MAX_MESSAGE_LENGTH: Final = 300
MAX_QUOTE_LENGTH: Final = 60

Location: TypeAlias = tuple[str | int, ...]


class FormatErrorCode(StrEnum):
    FILE_TOO_LARGE = "file_too_large"
    FILE_TOO_COMPLEX = "file_too_complex"
    FILE_UNSAFE_TEXT = "file_unsafe_text"
    FILE_UNSAFE_NUMBER = "file_unsafe_number"
    ALT_NOT_PARSABLE = "alt_not_parsable"
    ALT_INVALID = "alt_invalid"
    ALT_DUPLICATE_TASK = "alt_duplicate_task"
    ALT_UNKNOWN_DEPENDENCY = "alt_unknown_dependency"
    ALT_CYCLE = "alt_cycle"
    LAST_NOT_PARSABLE = "last_not_parsable"
    LAST_INVALID = "last_invalid"
    ATLAS_NOT_PARSABLE = "atlas_not_parsable"
    ATLAS_INVALID = "atlas_invalid"


class FormatError(ValueError):
    """A file that cannot be taken. The message is short and printable, whatever the file held."""

    def __init__(self, code: FormatErrorCode, message: str) -> None:
        self.code = code
        self.message = clip("".join(char if char.isprintable() else "?" for char in message), MAX_MESSAGE_LENGTH)
        super().__init__(code, self.message)

    def __str__(self) -> str:
        return self.message


def clip(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}…"


def quote(text: str) -> str:
    """Text of the file inside a message."""
    return f"'{clip(text, MAX_QUOTE_LENGTH)}'"


def place(location: Location) -> str:
    """Write a path into the file as a person does: `segments[2].id`."""
    steps = (f"[{step}]" if isinstance(step, int) else f".{clip(step, MAX_QUOTE_LENGTH)}" for step in location)
    return clip("".join(steps).removeprefix("."), 2 * MAX_QUOTE_LENGTH)
