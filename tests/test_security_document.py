"""docs/security.md says which test proves each requirement: they must exist, and belong to `make test-security`."""

import re
from pathlib import Path

import pytest
from django.conf import settings

DOCUMENT = (Path(settings.BASE_DIR) / "docs/security.md").read_text()
ROWS = re.findall(r"^\| (\d+\.\d+\.\d+) \|(.+)\|(.+)\|$", DOCUMENT, re.MULTILINE)
TESTS = sorted(set(re.findall(r"`([\w/]+/test_\w+\.py)::(\w+)`", DOCUMENT)))


@pytest.mark.parametrize(("module", "name"), TESTS)
def test_every_test_that_is_named_exists_and_is_a_security_test(module, name):
    source = (Path(settings.BASE_DIR) / module).read_text()
    assert re.search(rf"^(    )?(async )?def {name}\(", source, re.MULTILINE)
    assert "pytest.mark.security" in source


def test_every_requirement_is_met_with_a_test_or_says_why_not():
    assert len(ROWS) > 60
    for number, _requirement, state in ROWS:
        met = state.strip().startswith("met: ") and "`" in state
        assert met or state.strip().startswith(("not applicable: ", "open: ", "by configuration: ")), (number, state)
    assert len({number for number, *_ in ROWS}) == len(ROWS)
