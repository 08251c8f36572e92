"""`.alt`: a command cut into tasks, in the dialect of the segmentation service or of the runner."""

import json
from graphlib import CycleError, TopologicalSorter
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, AliasChoices, BeforeValidator, FailFast, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from files.formats.errors import FormatError, FormatErrorCode, quote
from files.formats.model import DEFAULT_VERSION, Count, FormatModel, Id, JsonObject, Tags
from files.formats.reading import read_json_or_yaml

MAX_TASKS: Final = 1_000
MAX_CYCLE_STEPS: Final = 5


def parse_alt(content: str) -> "AltDocument":
    data = read_json_or_yaml(content, not_parsable=FormatErrorCode.ALT_NOT_PARSABLE)
    document = AltDocument.from_file({**data, "dialect": _dialect(data)}, invalid=FormatErrorCode.ALT_INVALID)
    _check_ids(document)
    _check_dependencies(document)
    return document


def _named_values(parameters: Any) -> Any:
    """`[{name, value, ...}]` as `{name: value}`."""
    if not isinstance(parameters, list):
        return parameters
    values: JsonObject = {}
    for parameter in parameters:
        name = parameter.get("name") if isinstance(parameter, dict) else None
        if not isinstance(name, str) or not name:
            raise PydanticCustomError("parameter_name", "every parameter in the list needs a name")
        if name in values:
            raise PydanticCustomError("parameter_twice", "two parameters in the list have the same name")
        values[name] = parameter.get("value")
    return values


def _lowered(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


class AltTask(FormatModel):
    id: Id = Field(validation_alias=AliasChoices("id", "segment_id"))
    type: str = Field(default="execute", validation_alias=AliasChoices("type", "task_type"))
    parameters: Annotated[JsonObject, BeforeValidator(_named_values)] = Field(default_factory=dict)
    description: str = Field(default="", validation_alias=AliasChoices("description", "content"), validate_default=True)
    dependencies: Annotated[tuple[Id, ...], FailFast(), AfterValidator(lambda ids: tuple(dict.fromkeys(ids)))] = ()
    timeout_seconds: Count | None = None
    retry_count: Count = 0
    priority: str | None = None
    tags: Tags = ()
    metadata: JsonObject = Field(default_factory=dict)

    @field_validator("description")
    @classmethod
    def _fall_back_to_content(cls, description: str, info: ValidationInfo) -> str:
        content = info.data.get("parameters", {}).get("content")
        return description or (content if isinstance(content, str) else "")

    def to_json_object(self) -> JsonObject:
        fields: JsonObject = {
            "id": self.id,
            "description": self.description,
            "dependencies": list(self.dependencies),
            "parameters": self.parameters,
            "timeout_seconds": self.timeout_seconds,
            "retry_count": self.retry_count,
            "status": "pending",
            "priority": self.priority,
            "tags": list(self.tags),
        }
        # No part of the runner's dialect: they ride along where a task says something with them.
        if self.type != "execute":
            fields["type"] = self.type
        if self.metadata:
            fields["metadata"] = self.metadata
        return _without_nulls(fields)


class AltDocument(FormatModel):
    dialect: Literal["segments", "tasks"]
    id: Id = Field(validation_alias=AliasChoices("id", "task_id"))
    version: str = DEFAULT_VERSION
    created_at: str | None = Field(default=None, validation_alias=AliasChoices("created_at", "timestamp"))
    title: str = ""
    description: str = ""
    command: str = Field(default="", validation_alias=AliasChoices("command", "original_command"))
    language: str | None = None
    mode: Annotated[Literal["normal", "dream", "explore", "chaos"], BeforeValidator(_lowered)] = "normal"
    persona: str = "technical_expert"
    chaos_level: Annotated[int, Field(strict=True, ge=1, le=10)] | None = None
    tasks: Annotated[tuple[AltTask, ...], FailFast()] = Field(
        min_length=1, max_length=MAX_TASKS, validation_alias=AliasChoices("tasks", "segments")
    )
    metadata: JsonObject = Field(default_factory=dict)
    priority: str | None = None
    tags: Tags = ()

    @field_validator("chaos_level")
    @classmethod
    def _only_in_chaos_mode(cls, level: int | None, info: ValidationInfo) -> int | None:
        """Services that always send a level mean nothing by it in the other modes."""
        return level if info.data.get("mode") == "chaos" else None

    def to_tasks_json(self) -> str:
        """Write the file as the runner takes it; the same document gives the same bytes."""
        fields: JsonObject = {
            "id": self.id,
            "version": self.version,
            "created_at": self.created_at,
            "title": self.title,
            "description": self.description,
            "mode": self.mode,
            "persona": self.persona,
            "tasks": [task.to_json_object() for task in self.tasks],
            "metadata": self.metadata,
            "priority": self.priority,
            "tags": list(self.tags),
        }
        return json.dumps(_without_nulls(fields), ensure_ascii=False, allow_nan=False)


def _without_nulls(fields: JsonObject) -> JsonObject:
    return {name: value for name, value in fields.items() if value is not None}


def _dialect(data: JsonObject) -> str:
    found = [dialect for dialect in ("segments", "tasks") if data.get(dialect) is not None]
    if len(found) != 1:
        problem = "both `segments` and `tasks`" if found else "neither `segments` nor `tasks`"
        raise FormatError(FormatErrorCode.ALT_INVALID, f"The file has {problem}; one of them is expected.")
    return found[0]


def _check_ids(document: AltDocument) -> None:
    seen: set[str] = set()
    for index, task in enumerate(document.tasks):
        if task.id in seen:
            message = f"{document.dialect}[{index}].id: an earlier task has the id {quote(task.id)} already"
            raise FormatError(FormatErrorCode.ALT_DUPLICATE_TASK, message)
        seen.add(task.id)


def _check_dependencies(document: AltDocument) -> None:
    graph = {task.id: task.dependencies for task in document.tasks}
    for index, task in enumerate(document.tasks):
        for dependency in task.dependencies:
            if dependency not in graph:
                message = f"{document.dialect}[{index}].dependencies: there is no task {quote(dependency)}"
                raise FormatError(FormatErrorCode.ALT_UNKNOWN_DEPENDENCY, message)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        raise FormatError(FormatErrorCode.ALT_CYCLE, _cycle_message(document, error.args[1])) from error


def _cycle_message(document: AltDocument, cycle: list[str]) -> str:
    """Name who waits for whom; graphlib puts each task before the one that waits for it."""
    steps = [quote(task_id) for task_id in reversed(cycle)]
    if len(steps) > MAX_CYCLE_STEPS:
        steps[MAX_CYCLE_STEPS - 2 : -1] = ["…"]
    return f"{document.dialect}.dependencies: tasks wait in a circle: {' -> '.join(steps)}"
