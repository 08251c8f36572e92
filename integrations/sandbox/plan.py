"""Reading an ``.alt`` file, of either dialect, as a plan: tasks in an order they can be done in."""

from __future__ import annotations

import heapq
import json
from collections import defaultdict
from typing import Any

import yaml
from pydantic import BaseModel, Field, JsonValue

from integrations.sandbox.bodies import MAX_DEPTH, Body, check_tree, refuse, validate

MAX_ALT_LENGTH = 2_000_000
MAX_TASKS = 1000

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _JsonLikeLoader(_Loader):  # type: ignore[misc] # the fast loader if libyaml is there, chosen at run time
    """Reads dates as the text they are: JSON has none."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML's own class attribute
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith(":timestamp")]
        for first, resolvers in _Loader.yaml_implicit_resolvers.items()
    }


class PlannedTask(BaseModel):
    id: str
    text: str
    dependencies: list[str]


class Plan(BaseModel):
    """The tasks of an ``.alt`` in an order in which each comes after what it depends on."""

    title: str
    tasks: list[PlannedTask]
    tags: list[str]


class _AltTask(Body):
    """A task of the *tasks* dialect or a segment of the *segments* dialect."""

    id: str | None = Field(default=None, min_length=1, max_length=200)
    segment_id: str | None = Field(default=None, min_length=1, max_length=200)
    content: str | None = None
    description: str | None = None
    parameters: dict[str, JsonValue] | list[JsonValue] | None = None
    dependencies: list[str] | None = None

    def plan(self) -> PlannedTask:
        identity = self.id or self.segment_id
        if identity is None:
            refuse("altContent: a task has no id")
        text = self.content or self._content_parameter() or self.description or ""
        return PlannedTask(id=identity, text=text, dependencies=self.dependencies or [])

    def _content_parameter(self) -> str | None:
        if isinstance(self.parameters, dict):
            value = self.parameters.get("content")
            return value if isinstance(value, str) else None
        for item in self.parameters or []:
            if isinstance(item, dict) and item.get("name") == "content":
                value = item.get("value")
                return value if isinstance(value, str) else None
        return None


class _Alt(Body):
    title: str | None = None
    command: str | None = None
    original_command: str | None = None
    tags: list[str] | None = None
    tasks: list[_AltTask] | None = Field(default=None, min_length=1, max_length=MAX_TASKS)
    segments: list[_AltTask] | None = Field(default=None, min_length=1, max_length=MAX_TASKS)


def read_plan(alt: str | dict[str, Any]) -> Plan:
    """Read and check an ``.alt``; refuses with 422 and the reason."""
    document = parse(alt) if isinstance(alt, str) else alt
    read = validate(_Alt, document, "altContent")
    items = read.tasks or read.segments
    if not items:
        refuse("altContent: has neither tasks nor segments")
    title = read.title or read.command or read.original_command or ""
    return Plan(title=title[:200], tasks=_in_order([item.plan() for item in items]), tags=read.tags or [])


def parse(text: str) -> object:
    """Parse JSON or YAML into plain JSON values, refusing what only serves to exhaust the reader."""
    if len(text) > MAX_ALT_LENGTH:
        refuse(f"altContent: longer than {MAX_ALT_LENGTH} characters")
    try:
        document: object = json.loads(text)
    except RecursionError:
        refuse(f"altContent: nested deeper than {MAX_DEPTH} levels")
    except ValueError:
        document = _parse_yaml(text)
    check_tree(document)
    return document


def _parse_yaml(text: str) -> object:
    try:
        _check_events(text)
        return yaml.load(text, Loader=_JsonLikeLoader)  # noqa: S506 - a subclass of the safe loader
    except (yaml.YAMLError, ValueError) as error:
        reason = getattr(error, "problem", None) or "cannot be read"
        refuse(f"altContent: neither JSON nor YAML ({reason})")


def _check_events(text: str) -> None:
    """Look at the YAML piece by piece before anything is built from it."""
    depth = 0
    for event in yaml.parse(text, Loader=_JsonLikeLoader):
        if isinstance(event, yaml.AliasEvent):
            refuse("altContent: YAML aliases are not accepted")
        if getattr(event, "tag", None) is not None:
            refuse("altContent: YAML tags are not accepted")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > MAX_DEPTH:
            refuse(f"altContent: nested deeper than {MAX_DEPTH} levels")


def _in_order(tasks: list[PlannedTask]) -> list[PlannedTask]:
    """Order the tasks by their dependencies, staying as close to the file's own order as they allow."""
    position = {task.id: number for number, task in enumerate(tasks)}
    if len(position) < len(tasks):
        refuse("altContent: two tasks have the same id")
    waiting_for: dict[int, set[str]] = {}
    dependents: dict[str, list[int]] = defaultdict(list)
    for number, task in enumerate(tasks):
        waiting_for[number] = set(task.dependencies)
        for dependency in waiting_for[number]:
            if dependency not in position:
                refuse(f"altContent: task {task.id!r} depends on {dependency!r}, which does not exist")
            dependents[dependency].append(number)
    ready = [number for number, dependencies in waiting_for.items() if not dependencies]
    ordered = []
    while ready:
        task = tasks[heapq.heappop(ready)]
        ordered.append(task)
        for number in dependents[task.id]:
            waiting_for[number].discard(task.id)
            if not waiting_for[number]:
                heapq.heappush(ready, number)
    if len(ordered) < len(tasks):
        refuse("altContent: the dependencies form a cycle")
    return ordered
