"""The failure drill (`make drill`) and chaos (`make chaos`) in their short forms."""

import re
import subprocess
import sys
from collections import Counter

import pytest

from commands.models import Command
from commands.services import command_submit
from commands.states import Stage, Status
from commands.transitions import command_transition
from tests.drill import records
from tests.drill.chaos import not_applied
from tests.drill.load import Accepted
from tests.drill.outcome import Journal, Outcome
from tests.drill.plan import BLOWS, plan_of
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


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_whatever_is_killed_at_any_moment_every_promise_holds():
    chaos = [sys.executable, "-m", "tests.drill.chaos", "--commands", "100"]
    done = subprocess.run(chaos, capture_output=True, text=True, check=False)  # noqa: S603 - our own
    print(done.stdout)  # noqa: T201 - as above
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"^[a-z, ]+ \(must be 0\) +0$", done.stdout, re.MULTILINE)) == len(Outcome().rules())


def test_the_same_seed_gives_the_same_commands_and_blows():
    def plan(seed):
        return plan_of(seed, commands=100, rate=2.5, gap=2.5, has_own_database=True)

    assert plan(1) == plan(1)
    assert plan(1) != plan(2)
    assert {blow.kind for blow in plan(1).blows} == set(BLOWS)


@pytest.mark.parametrize("seed", range(5))
def test_a_run_in_which_hardly_any_request_was_misled_does_not_pass(seed):
    plan = plan_of(seed, commands=100, rate=2.5, gap=2.5, has_own_database=True)
    assert plan.misled > 100
    assert not_applied(plan, Counter(drop=1, hang=4)) != []
    assert not_applied(plan, Counter(drop=40, hang=40)) == []


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
        ("failed", "cancel_unconfirmed", True, False),
        ("failed", "deadline_passed", False, False),
        ("failed", None, False, False),
        ("cancelled", None, True, True),
        ("cancelled", None, False, False),
        ("cancelled", "cancel_unconfirmed", True, True),
        ("cancelled", "deadline_passed", False, False),
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


def test_a_deadline_that_passed_is_an_honest_end_of_what_had_one():
    for status in ("failed", "cancelled"):
        verdict = Verdict()
        command = {"status": status, "finished_at": "2026-11-23T06:37:56Z", "error": {"code": "deadline_passed"}}
        judge_end(verdict, "1", Accepted(1, None, has_deadline=True), command)
        assert verdict.is_good


@pytest.mark.parametrize(
    ("ended_at", "code", "problems"),
    [
        ("2026-11-23T06:37:55Z", None, 0),
        ("2026-11-23T06:37:57Z", None, 1),
        (None, None, 1),
        (None, "deadline_passed", 1),
        (None, "cancel_unconfirmed", 0),
    ],
)
def test_a_runner_that_works_on_after_its_command_was_cancelled_does_not_pass(ended_at, code, problems):
    journal = Journal(Counter(), 0, {"a:runner": {"ended_at": ended_at}})
    command = {"status": "cancelled", "finished_at": "2026-11-23T06:37:56Z", "error": code and {"code": code}}
    assert len(list(journal.at_work({"a": command}))) == problems


@pytest.mark.django_db
def test_what_is_wrong_in_the_database_is_found(alice):
    command = command_submit(user=alice, text="echo hello")
    assert {rule: found for rule, found in records.report().items() if found} == {
        "ids": [str(command.id)],
        "unfinished": [f"{command.id}: queued"],
    }
    command_transition(command, Status.CANCELLED)
    assert {rule for rule, found in records.report().items() if found} == {"ids"}
    command.stage_runs.create(stage=Stage.RUNNER, attempt=2, idempotency_key="a")
    Command.objects.update(lease_owner="a dead worker", last_seq=3)
    assert {rule for rule, found in records.report().items() if found} == {"ids", "events", "leases", "runs"}


@pytest.mark.django_db
@pytest.mark.parametrize(
    "harm",
    [
        lambda command: command.events.filter(seq=1).delete(),
        lambda command: command.events.filter(seq=2).update(status=Status.COMPLETED),
        lambda command: Command.objects.filter(id=command.id).update(last_seq=1),
    ],
)
def test_events_that_are_wrong_are_found(alice, harm):
    command = command_submit(user=alice, text="echo hello")
    command_transition(command, Status.CANCELLED)
    harm(command)
    assert records.report()["events"] != []
