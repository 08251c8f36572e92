"""Whatever a service sends: a document that keeps its promises, or a `FormatError`, and nothing else."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from files.formats import AltDocument, FormatError, FormatErrorCode, parse_alt, parse_atlas, parse_last
from files.tests.formats.samples import SEGMENTS_SAMPLES, TASKS_SAMPLE, last, sample

Parser = Callable[[str], BaseModel]

PARSERS: tuple[Parser, ...] = (parse_alt, parse_last, parse_atlas)
KNOWN_KEYS = [
    "id",
    "task_id",
    "segment_id",
    "mode",
    "chaos_level",
    "segments",
    "tasks",
    "parameters",
    "name",
    "value",
    "dependencies",
    "metadata",
    "tags",
    "content",
    "description",
    "type",
    "status",
    "success_rate",
    "task_results",
    "output",
    "duration",
    "artifacts",
    "segment_results",
    "timeout_seconds",
]
VALID = [
    json.loads(sample(TASKS_SAMPLE)),
    *(yaml.safe_load(sample(name)) for name in SEGMENTS_SAMPLES),
    json.loads(last(task_results={"a": {"status": "ok", "output": "x", "duration_ms": 3}}, tags=["t"], summary="s")),
    {"id": "atlas", "success_rate": 0.5, "content": {"k": [1]}, "segment_results": [], "tags": ["t"]},
]

any_text = st.text(st.characters(), max_size=30)  # surrogates and NUL among them
keys = st.sampled_from(KNOWN_KEYS) | any_text
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | any_text
    | st.sampled_from(["chaos", "success", 10**400, "9" * 5000])
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=6), max_leaves=25
)
yaml_like = st.lists(
    st.sampled_from([*"{}[]:,-&*!?|>'\"#%@`~<=\n\t ", "---", "...", "id: ", "tasks:\n", "- ", "  ", "<<: *a", "&a "])
    | any_text,
    max_size=40,
).map("".join)

thorough = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
every_parser = pytest.mark.parametrize("parse", PARSERS)


def check_refusal(error: FormatError) -> None:
    assert error.code in FormatErrorCode
    assert 0 < len(str(error)) <= 300
    assert str(error).isprintable()


def check(parse: Parser, content: str) -> None:
    try:
        document = parse(content)
    except FormatError as refused:
        check_refusal(refused)
        return
    stored = json.dumps(document.model_dump(), ensure_ascii=False, allow_nan=False)
    assert "\\u0000" not in stored.replace("\\\\", "")
    assert stored.encode("utf-8")
    if isinstance(document, AltDocument):
        again = parse_alt(document.to_tasks_json())
        assert again.tasks == document.tasks
        assert again.to_tasks_json() == document.to_tasks_json()


@st.composite
def mutated(draw: st.DrawFn) -> Any:
    """A valid document with a few of its nodes replaced, dropped or renamed."""
    document = json.loads(json.dumps(draw(st.sampled_from(VALID))))
    for _ in range(draw(st.integers(1, 4))):
        node = document
        while True:
            key = draw(st.sampled_from(list(node) if isinstance(node, dict) else range(len(node))))
            if not (isinstance(node[key], dict | list) and node[key] and draw(st.booleans())):
                break
            node = node[key]
        if draw(st.booleans()):
            node[key] = draw(values)
        elif len(node) > 1:
            moved = node.pop(key)
            if isinstance(node, dict):
                node[draw(keys)] = moved
    return document


@every_parser
@thorough
@given(content=st.text(st.characters()) | yaml_like)
def test_any_text(parse, content):
    check(parse, content)


@every_parser
@thorough
@given(value=values, ascii_only=st.booleans())
def test_any_json_value(parse, value, ascii_only):
    check(parse, json.dumps(value, ensure_ascii=ascii_only))


@every_parser
@thorough
@given(document=mutated())
def test_any_change_of_a_valid_document(parse, document):
    check(parse, json.dumps(document))


@thorough
@given(document=mutated())
def test_any_change_of_a_valid_document_in_yaml(document):
    check(parse_alt, yaml.safe_dump(document, allow_unicode=True))


@every_parser
@thorough
@given(data=st.data())
def test_any_damage_to_the_text_of_a_valid_document(parse, data):
    content = json.dumps(data.draw(st.sampled_from(VALID)))
    start = data.draw(st.integers(0, len(content)))
    end = data.draw(st.integers(start, min(len(content), start + 20)))
    check(parse, content[:start] + data.draw(any_text) + content[end:])


clean_text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufeff"))
clean_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | clean_text
    | st.from_regex(r"[-+0-9a-f.:_~=]{1,8}", fullmatch=True),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(clean_text, inner, max_size=4),
    max_leaves=10,
)


@thorough
@given(value=clean_values)
def test_what_python_services_write_as_yaml_is_read_as_they_meant_it(value):
    content = yaml.safe_dump({"id": "x", "tasks": [{"id": "a", "parameters": {"v": value}}]})

    assert parse_alt(content).tasks[0].parameters == {"v": value}


ids = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20).filter(
    str.strip
)


@thorough
@given(names=st.lists(ids, min_size=1, max_size=12, unique=True), data=st.data())
def test_every_graph_that_only_looks_back_is_taken_and_survives_the_way_to_the_runner(names, data):
    tasks = [
        {"id": name, "dependencies": data.draw(st.lists(st.sampled_from(names[:index]))) if index else []}
        for index, name in enumerate(names)
    ]
    document = parse_alt(json.dumps({"id": "x", "tasks": tasks}))

    assert [task.id for task in document.tasks] == names
    assert parse_alt(document.to_tasks_json()).tasks == document.tasks
