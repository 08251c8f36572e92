"""The failure drill (`make drill`) in its short form."""

import subprocess
import sys

import pytest


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_whatever_fails_no_command_is_lost_or_done_twice():
    drill = [sys.executable, "-m", "tests.drill", "--minutes", "0.75"]
    done = subprocess.run(drill, capture_output=True, text=True, check=False)  # noqa: S603 - our own
    print(done.stdout)  # noqa: T201 - pytest shows it when the test fails: the seed, and what happened
    assert done.returncode == 0, done.stderr
    assert "lost (must be 0)        0\n" in done.stdout
    assert "executed twice (0)      0\n" in done.stdout
