"""`.last`: what came of each task."""

from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BeforeValidator, Field

from files.formats.errors import FormatErrorCode
from files.formats.model import FormatModel, Id, Milliseconds, Rate, Rendered
from files.formats.reading import read_json


def parse_last(content: str) -> "LastDocument":
    data = read_json(content, not_parsable=FormatErrorCode.LAST_NOT_PARSABLE)
    return LastDocument.from_file(data, invalid=FormatErrorCode.LAST_INVALID)


def _one_word(status: Any) -> Any:
    """`Partial_Success` as `partialsuccess`."""
    return status.lower().translate({ord(char): None for char in "_- "}) if isinstance(status, str) else status


def _without_nulls(results: Any) -> Any:
    """Null is an absent key, here too: a task of which nothing is said."""
    if not isinstance(results, dict):
        return results
    return {key: result for key, result in results.items() if result is not None}


class TaskResult(FormatModel):
    status: Rendered = "unknown"
    output: Rendered = ""
    error: Rendered | None = None
    duration_ms: Milliseconds = Field(
        default=None, validation_alias=AliasChoices("duration_ms", "execution_time_ms", "duration")
    )


class LastDocument(FormatModel):
    """What the gateway makes use of. What else a runner writes stays in the file, whatever it looks like."""

    id: Id
    status: Annotated[Literal["success", "partialsuccess", "failure"], BeforeValidator(_one_word)]
    success_rate: Rate
    task_results: Annotated[dict[Id, TaskResult], BeforeValidator(_without_nulls)]
    summary: Rendered = ""
