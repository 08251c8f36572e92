"""Valid files to start from, and how to say what is wrong with a changed one."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from files.formats import FormatError

DATA = Path(__file__).parent / "data"
SEGMENTS_SAMPLES = ("segments-0.alt", "segments-3.alt")
TASKS_SAMPLE = "tasks-example.alt"


def sample(name: str) -> str:
    return (DATA / name).read_text(encoding="utf-8")


def alt(*tasks: Any, **fields: Any) -> str:
    return json.dumps({"id": "alt-1", "tasks": tasks or [{"id": "a"}], **fields})


def segments(*items: Any, **fields: Any) -> str:
    return json.dumps({"id": "alt-1", "segments": items, **fields})


def last(**fields: Any) -> str:
    required = {"id": "last-1", "status": "success", "success_rate": 1.0, "task_results": {}}
    return json.dumps({**required, **fields})


def atlas(**fields: Any) -> str:
    return json.dumps({"id": "atlas-1", **fields})


def refusal(parse: Callable[[str], object], content: str) -> FormatError:
    with pytest.raises(FormatError) as caught:
        parse(content)
    return caught.value
