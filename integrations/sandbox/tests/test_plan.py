from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.exceptions import HTTPException

from integrations.sandbox.plan import read_plan

SEGMENTS_SAMPLE = """\
id: 63acd403
timestamp: 2025-04-28T00:28:21
command: "Sistem performans\\u0131n\\u0131 kontrol et"
chaos_level: null
segments:
- id: a
  task_type: execute
  content: "Sistem performans\\u0131n\\u0131 kontrol et"
  parameters:
  - name: content
    value: ignored
  dependencies: []
  metadata: {confidence: 0.5}
- segment_id: b
  parameters: [{name: content, value: echo b}]
  dependencies: [a]
"""


def tasks_alt(**dependencies: list[str] | None) -> dict[str, object]:
    return {
        "tasks": [
            {"id": name, "description": f"echo {name}", "dependencies": needs} for name, needs in dependencies.items()
        ]
    }


def test_both_dialects_are_read() -> None:
    plan = read_plan(SEGMENTS_SAMPLE)
    assert [(task.id, task.text) for task in plan.tasks] == [
        ("a", "Sistem performans\u0131n\u0131 kontrol et"),
        ("b", "echo b"),
    ]
    plan = read_plan('{"title": "T", "tasks": [{"id": "a", "description": "echo a", "dependencies": null}]}')
    assert (plan.title, plan.tasks[0].text) == ("T", "echo a")


@pytest.mark.parametrize("path", sorted((Path(__file__).parent / "samples").glob("*.alt")), ids=lambda path: path.name)
def test_real_samples_are_read(path: Path) -> None:
    assert read_plan(path.read_text()).tasks


def test_tasks_come_after_what_they_depend_on_and_else_in_file_order() -> None:
    plan = read_plan(tasks_alt(a=["d"], b=None, c=["b"], d=[]))
    assert [task.id for task in plan.tasks] == ["b", "c", "d", "a"]


BOMB = "a: &a [x, x]\nb: &b [*a, *a]\ntasks: [*b]"


@pytest.mark.parametrize(
    ("alt", "reason"),
    [
        (tasks_alt(a=["b"], b=["a"]), "cycle"),
        (tasks_alt(a=["a"]), "cycle"),
        (tasks_alt(a=["x"]), "does not exist"),
        ({"tasks": [{"id": "a"}, {"id": "a"}]}, "same id"),
        ({"tasks": [{"description": "echo"}]}, "no id"),
        ({"tasks": []}, "tasks"),
        ({"tasks": [{"id": 1}]}, r"tasks\.0\.id"),
        ({}, "neither tasks nor segments"),
        ("", "altContent"),
        ("just text", "altContent"),
        ("[1, 2]", "altContent"),
        ("a: [", "neither JSON nor YAML"),
        (BOMB, "aliases"),
        ("tasks: !!python/object:os.system x", "tags"),
        ("a: !!timestamp nonsense", "tags"),
        ("1: x", "not text"),
        ("a: .inf", "not finite"),
        ("[" * 5000, "nested"),
        ("[" * 5000 + "]" * 5000, "nested"),
        ("- " * 5000 + "a", "nested"),
        ("a: 0b_", "neither JSON nor YAML"),
        ("a: " + "1" * 5000, "neither JSON nor YAML"),
        ('"\\ud800"', "surrogate"),
        ("x" * 2_000_001, "longer"),
        ("a\0b", "neither JSON nor YAML"),
    ],
)
def test_what_is_no_plan_is_refused(alt: Any, reason: str) -> None:
    with pytest.raises(HTTPException, match=reason) as caught:
        read_plan(alt)
    assert caught.value.status_code == 422


@given(st.text())
def test_any_text_is_refused_in_order(text: str) -> None:
    with pytest.raises(HTTPException) as caught:
        read_plan(text)
    assert caught.value.status_code == 422
