"""Small modules, small functions: what docs call the sizes."""

import ast
from pathlib import Path

import pytest
from django.conf import settings

MAX_MODULE, MAX_FUNCTION = 400, 40
ROOMS = ("accounts", "commands", "files", "gateway", "integrations", "notifications")
MODULES = sorted(
    path.relative_to(settings.BASE_DIR)
    for room in ROOMS
    for path in (settings.BASE_DIR / room).rglob("*.py")
    if not {"tests", "migrations"} & set(path.parts)
)


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_a_module_and_its_functions_are_small_enough_to_read(module: Path):
    source = (settings.BASE_DIR / module).read_text()
    assert len(source.splitlines()) <= MAX_MODULE
    too_long = [
        f"{node.name}: {lines} lines"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (lines := (node.end_lineno or 0) - node.lineno + 1) > MAX_FUNCTION
    ]
    assert too_long == []
