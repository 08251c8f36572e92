"""The failure drill (`make drill`) in its short form."""

import re
import subprocess
import sys

import pytest

from tests.drill.load import Accepted
from tests.drill.verdict import Event, Verdict, judge_end, judge_works


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_whatever_fails_no_command_is_lost_or_done_twice():
    drill = [sys.executable, "-m", "tests.drill", "--minutes", "0.75"]
    done = subprocess.run(drill, capture_output=True, text=True, check=False)  # noqa: S603 - our own
    print(done.stdout)  # noqa: T201 - pytest shows it when the test fails: the seed, and what happened
    assert done.returncode == 0, done.stderr
    for rule in ("lost", "executed twice", "not applied"):
        assert re.search(rf"^{rule} \(must be 0\) +0$", done.stdout, re.MULTILINE)


@pytest.mark.parametrize(
    ("works", "problems"),
    [
        ({"a:segmentation": 1, "a:runner": 1, "a:archive": 1, "b:archive": 1}, 0),
        ({"a:runner": 2}, 1),
        ({"a:runner": 1, "a:runner:2": 1}, 1),
        ({"unknown:runner": 1}, 1),
        ({"b:runner": 1}, 1),  # of a step, another stage
    ],
)
def test_work_that_nobody_asked_for_does_not_pass(works, problems):
    accepted, stats = {"a": Accepted(1, None), "b": Accepted(25, "archive")}, {"works_by_key": works}
    verdict, worse = Verdict(), Verdict()
    judge_works(verdict, accepted, {"runner-1": {**stats, "works": sum(works.values())}})
    judge_works(worse, accepted, {"runner-1": {**stats, "works": sum(works.values()) + 1}})
    assert (len(verdict.twice), len(worse.twice)) == (problems, problems + 1)


@pytest.mark.parametrize(
    ("status", "code", "is_to_end", "is_good"),
    [
        ("completed", None, False, True),
        ("failed", "runner_timeout", False, True),
        ("failed", "worker_lost", False, False),
        ("failed", "internal_error", True, False),
        ("failed", "cancel_unconfirmed", True, True),
        ("failed", "cancel_unconfirmed", False, False),
        ("failed", None, False, False),
        ("cancelled", None, True, True),
        ("cancelled", None, False, False),
    ],
)
def test_only_an_honest_end_passes(status, code, is_to_end, is_good):
    verdict = Verdict()
    command = {"status": status, "finished_at": "2026-11-23T06:37:56Z", "error": code and {"code": code}}
    judge_end(verdict, "1", Accepted(1, None, is_to_end), command)
    assert verdict.is_good == is_good


def test_a_fault_that_an_instance_or_nobody_met_counts_as_not_applied():
    def is_applied(**hits):
        return Event("nonsense", 0, 0, 0, hits).is_applied

    assert is_applied(runner=[1, 0], archive=[0, 1])
    assert not is_applied(runner=[2, 0], archive=[1, 0])
    assert not is_applied(runner=[2, 1], archive=[0, 0])
