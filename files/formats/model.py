"""What the three documents share: field types, the null rule, and readable validation messages."""

import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    FailFast,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from files.formats.errors import FormatError, FormatErrorCode, place

MAX_ID_LENGTH: Final = 200
DEFAULT_VERSION: Final = "1.0"
MAX_MILLISECONDS: Final = 2**53

# In place of pydantic's own words, where they speak of Python rather than of the file.
_WORDS: Final = {
    "missing": "is required",
    "model_type": "must be a mapping",
    "dict_type": "must be a mapping",
    "tuple_type": "must be a list",
    "string_type": "must be text",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "too_short": "must not be empty",
}
_SUBJECT: Final = re.compile(r"^(Input|String|Tuple) ")


class FormatModel(BaseModel):
    """Part of a file: null is an absent key, a number will do for text, unknown keys are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", coerce_numbers_to_str=True)

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        return {key: value for key, value in data.items() if value is not None}

    @classmethod
    def from_file(cls, data: Mapping[str, Any], *, invalid: FormatErrorCode) -> Self:
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise FormatError(invalid, _message(error)) from error


def _message(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    problem = _WORDS.get(first["type"]) or _SUBJECT.sub("", first["msg"])
    return f"{place(first['loc'])}: {problem}"


def _not_blank(text: str) -> str:
    if not text.strip():
        raise PydanticCustomError("blank", "must not be blank")
    return text


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _milliseconds(value: Any) -> int | None:
    """A duration is good to know, but none that makes no sense is worth refusing a result for."""
    known = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= MAX_MILLISECONDS
    return round(value) if known else None


Id = Annotated[str, StringConstraints(max_length=MAX_ID_LENGTH), AfterValidator(_not_blank)]
# Text, or a structure given in its place as JSON text.
Rendered = Annotated[str, BeforeValidator(_text)]
# One bad item is enough: a million of them would cost half a minute to describe.
Tags = Annotated[tuple[str, ...], FailFast()]
JsonObject = dict[str, Any]
Count = Annotated[int, Field(strict=True, ge=0, le=2**31 - 1)]
Milliseconds = Annotated[int | None, BeforeValidator(_milliseconds)]
Rate = Annotated[float, Field(strict=True, ge=0, le=1)]
