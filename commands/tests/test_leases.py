from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import InterfaceError, OperationalError, connection
from django.db.models import QuerySet
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from psycopg.errors import ProgramLimitExceeded

from commands import leases
from commands.leases import CLOCK_SKEW, LeaseLostError, command_wake, lease_claim, lease_release, lease_renew
from commands.models import Command
from commands.pipeline import engine, stage
from commands.services import command_submit
from commands.states import Stage, Status
from commands.transitions import StaleCommandError, command_transition

pytestmark = pytest.mark.django_db


@pytest.fixture
def command(alice):
    return command_submit(user=alice, text="echo hello")


def expire(command):
    """Let the time pass that a dead worker's lease lasts."""
    past = timezone.now() - timedelta(seconds=1)
    Command.objects.filter(id=command.id).update(lease_expires_at=past)


def test_a_lease_is_given_once(command):
    assert lease_claim(command_id=command.id) is not None
    assert lease_claim(command_id=command.id) is None


@pytest.mark.django_db(transaction=True)
def test_of_many_workers_at_once_one_gets_the_lease(command):
    def claim(_number):
        try:
            return lease_claim(command_id=command.id) is not None
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(claim, range(8))) == [False] * 7 + [True]


def test_what_is_not_due_is_not_claimed(command):
    Command.objects.filter(id=command.id).update(turn_at=None, due_at=timezone.now() + timedelta(minutes=1))
    assert lease_claim(command_id=command.id) is None


def test_what_is_to_be_done_now_is_due_by_the_clocks_of_all_machines(command):
    command_wake(command_id=command.id)
    assert Command.objects.get(id=command.id).due_at <= timezone.now() - CLOCK_SKEW


def test_what_has_ended_is_not_claimed(command):
    command_transition(command, Status.CANCELLED)
    assert lease_claim(command_id=command.id) is None


def test_the_lease_of_a_dead_worker_passes_on_and_the_dead_can_write_nothing(command):
    dead = lease_claim(command_id=command.id)
    expire(command)
    living = lease_claim(command_id=command.id)
    assert living is not None
    with pytest.raises(StaleCommandError):
        command_transition(dead, Status.SEGMENTING, lease_owner=dead.lease_owner)
    with pytest.raises(LeaseLostError):
        lease_release(dead, due_at=timezone.now())
    dead.lease_expires_at = None
    with pytest.raises(LeaseLostError):
        lease_renew(dead)
    command_transition(living, Status.SEGMENTING, lease_owner=living.lease_owner)


def test_a_released_command_is_due_at_the_time_that_was_said(command):
    held = lease_claim(command_id=command.id)
    later = timezone.now() + timedelta(seconds=30)
    held.turn_at = None
    assert lease_release(held, due_at=later)
    fresh = Command.objects.get(id=command.id)
    assert (fresh.lease_owner, fresh.lease_expires_at, fresh.due_at, fresh.turn_at) == ("", None, later, None)
    assert lease_claim(command_id=command.id) is None


def test_who_was_woken_meanwhile_keeps_the_lease_and_goes_on(command):
    held = lease_claim(command_id=command.id)
    command_wake(command_id=command.id)
    assert not lease_release(held, due_at=timezone.now() + timedelta(seconds=30))
    assert Command.objects.get(id=command.id).lease_owner == held.lease_owner
    assert lease_release(held, due_at=timezone.now() + timedelta(seconds=30))


def test_waking_does_not_bring_back_what_has_ended(command):
    command_transition(command, Status.CANCELLED)
    command_wake(command_id=command.id)
    assert Command.objects.get(id=command.id).due_at is None


def test_a_renewed_lease_lasts_for_another_call(command, monkeypatch):
    held = lease_claim(command_id=command.id)
    monkeypatch.setattr(leases, "FRESH", timedelta(0))
    first = Command.objects.get(id=command.id).lease_expires_at
    lease_renew(held)
    assert Command.objects.get(id=command.id).lease_expires_at > first


# --- Workers that die, and a database that goes away ----------------------------------------------------------------


def test_a_lease_that_ran_out_is_a_death_and_one_that_was_given_back_is_none(command):
    for deaths in (0, 1, 2):
        claimed = lease_claim(command_id=command.id)
        assert claimed.deaths == deaths
        expire(command)
    claimed = lease_claim(command_id=command.id)
    lease_release(claimed, due_at=timezone.now())
    assert lease_claim(command_id=command.id).deaths == 0


def test_whoever_gets_on_with_it_starts_the_count_anew(command):
    lease_claim(command_id=command.id)
    expire(command)
    claimed = lease_claim(command_id=command.id)
    assert claimed.deaths == 1
    command_transition(claimed, Status.SEGMENTING, lease_owner=claimed.lease_owner)
    expire(command)
    assert lease_claim(command_id=command.id).deaths == 1


def goes_away(monkeypatch):
    """Let the database go away in the middle of the next step."""

    def step(*_args):
        monkeypatch.undo()
        connection.close()
        raise OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(engine, "stage_step", step)


@pytest.mark.django_db(transaction=True)
def test_a_database_that_goes_away_in_a_step_is_no_death_and_the_lease_is_given_back(
    command, sandbox, monkeypatch, alice
):
    later = command_submit(user=alice, text="echo later")
    goes_away(monkeypatch)
    update = QuerySet.update
    tries = []

    def is_away_at_first(self, **values):
        tries.append(values)
        if len(tries) == 1:
            raise InterfaceError("connection already closed")
        return update(self, **values)

    sleeps = []
    give_back = engine.lease_give_back

    def in_between(**whose):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(QuerySet, "update", is_away_at_first)
            patch.setattr(leases.time, "sleep", sleeps.append)
            give_back(**whose)

    engine_give_back = pytest.MonkeyPatch()
    engine_give_back.setattr(engine, "lease_give_back", in_between)
    try:
        engine.work(Stage.SEGMENTATION)  # goes on with the next, and with this one
    finally:
        engine_give_back.undo()
    assert sleeps == [leases.GIVE_BACK_EVERY]
    for each in (command, later):
        each.refresh_from_db()
        assert (each.stage, each.deaths, each.lease_owner) == (Stage.RUNNER, 0, "")


@pytest.mark.django_db(transaction=True)
def test_a_database_that_goes_away_when_a_stage_is_about_to_succeed_is_no_death_and_no_failed_try(
    command, sandbox, monkeypatch
):
    """The transition, which lets go of the lease, is rolled back with it."""

    def goes_away(*_args, **_values):
        monkeypatch.undo()
        connection.close()
        raise OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(stage, "finish_run", goes_away)
    engine.work(Stage.SEGMENTATION)  # goes on with it at once
    command.refresh_from_db()
    assert (command.status, command.deaths, command.lease_owner) == (Status.RUNNING, 0, "")
    tries = command.stage_runs.filter(stage=Stage.SEGMENTATION).values_list("outcome", "error_code")
    assert list(tries) == [("abandoned", "worker_lost"), ("succeeded", "")]


def test_what_the_database_refuses_each_time_ends_as_poisoned_and_stops_no_other(command, alice, sandbox, monkeypatch):
    later, step = command_submit(user=alice, text="echo later"), engine.stage_step

    def is_refused(each, *args):
        if each.id != command.id:
            return step(each, *args)
        raise OperationalError("index row size exceeds the maximum") from ProgramLimitExceeded()

    monkeypatch.setattr(engine, "stage_step", is_refused)
    for _ in range(4):
        engine.work(Stage.SEGMENTATION)
        expire(command)
    command.refresh_from_db()
    later.refresh_from_db()
    assert (command.status, command.error_code, later.status) == (Status.FAILED, "poisoned", Status.RUNNING)


def test_what_goes_wrong_with_one_command_stops_no_other(command, alice, sandbox, monkeypatch):
    later = command_submit(user=alice, text="echo later")

    def step(*_args):
        monkeypatch.undo()
        raise ZeroDivisionError

    monkeypatch.setattr(engine, "stage_step", step)
    engine.work(Stage.SEGMENTATION)
    command.refresh_from_db()
    later.refresh_from_db()
    assert (command.status, command.lease_owner != "") == (Status.QUEUED, True)  # it runs out, which is a death
    assert later.status == Status.RUNNING


@pytest.mark.django_db(transaction=True)
def test_who_knows_that_there_is_no_more_does_not_ask_once_more(command, sandbox):
    with CaptureQueriesContext(connection) as queries:
        engine.work(Stage.SEGMENTATION)
    command.refresh_from_db()
    assert command.stage == Stage.RUNNER
    assert sum("deaths = CASE" in query["sql"] for query in queries) == 1
