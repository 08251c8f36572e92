"""Which command comes next: with real rows, and real workers at once."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from commands import tasks
from commands.claims import stages_with_work
from commands.leases import lease_claim, lease_claim_next, lease_release
from commands.models import Command, Priority
from commands.pipeline import engine
from commands.queue import HEAD_START, queue_place, turn_of
from commands.services import command_cancel, command_submit
from commands.states import Stage, Status
from commands.transitions import command_transition
from integrations.clients.breaker import protected

pytestmark = pytest.mark.django_db


def send(user, text="echo hello", *, ago=0.0, **values):
    """A command that was sent so many seconds ago."""
    command = command_submit(user=user, text=text, **values)
    command.created_at = timezone.now() - timedelta(seconds=ago)
    command.turn_at = turn_of(command)
    command.save(update_fields=["created_at", "turn_at"])
    return command


def taken(stage=Stage.SEGMENTATION, **options):
    claimed = lease_claim_next(stage=stage, **options)
    return claimed and claimed[0]


def all_taken(stage=Stage.SEGMENTATION):
    commands = []
    while (command := taken(stage)) is not None:
        commands.append(command)
    return commands


def test_priority_orders_and_the_low_are_never_overtaken_by_more_than_the_head_start(alice):
    low = send(alice, ago=HEAD_START.total_seconds() * 2 + 10, priority=Priority.LOW)
    normal, high = send(alice, ago=10), send(alice, ago=5, priority=Priority.HIGH)
    late_low, late_high = send(alice, priority=Priority.LOW), send(alice, priority=Priority.HIGH)
    assert all_taken() == [low, high, late_high, normal, late_low]


def test_what_is_in_work_comes_first_when_it_is_due(alice):
    waiting, polled, later = send(alice, ago=100), send(alice), send(alice)
    now = timezone.now()
    Command.objects.filter(id=polled.id).update(turn_at=None, due_at=now)
    Command.objects.filter(id=later.id).update(turn_at=None, due_at=now + timedelta(seconds=60))
    assert all_taken() == [polled, waiting]


def test_each_stage_has_its_own(alice):
    first, second = send(alice), send(alice)
    Command.objects.filter(id=second.id).update(status=Status.RUNNING, stage=Stage.RUNNER)
    assert stages_with_work(now=timezone.now()) == [Stage.SEGMENTATION, Stage.RUNNER]
    assert (taken(Stage.ARCHIVE), taken(Stage.RUNNER), taken(Stage.RUNNER)) == (None, second, None)
    assert taken() == first
    assert stages_with_work(now=timezone.now()) == []


def test_the_claim_says_whether_there_is_more(alice):
    for _ in range(2):
        send(alice)
    assert [lease_claim_next(stage=Stage.SEGMENTATION)[1] for _ in range(2)] == [True, False]
    assert lease_claim_next(stage=Stage.SEGMENTATION) is None


def test_a_claim_and_a_release_are_one_statement_each(alice):
    send(alice)
    with CaptureQueriesContext(connection) as queries:
        command = taken()
    assert len(queries) == 1
    with CaptureQueriesContext(connection) as queries:
        lease_release(command, due_at=timezone.now())
    assert len(queries) == 1


def test_a_command_keeps_its_turn_over_the_stages_but_not_while_a_service_has_it(alice, sandbox):
    command = send(alice, ago=1000, priority=Priority.LOW)
    turn_at = command.turn_at
    held = lease_claim(command_id=command.id)
    command_transition(held, Status.SEGMENTING, lease_owner=held.lease_owner)
    command_transition(held, Status.RUNNING, lease_owner=held.lease_owner)
    command.refresh_from_db()
    assert (command.turn_at, command.lease_owner) == (turn_at, "")
    sandbox.runner.fault("never_finish")
    other = command_submit(user=alice, text="echo hello")
    engine.advance(other.id)
    other.refresh_from_db()
    assert (other.status, other.turn_at) == (Status.RUNNING, None)
    command_cancel(command=command)
    command.refresh_from_db()
    assert command.turn_at is None


@pytest.mark.django_db(transaction=True)
def test_many_workers_at_once_never_claim_the_same_and_leave_nothing(alice, settings):
    settings.COMMANDS_IN_FLIGHT = 1000
    ids = {send(alice).id for _ in range(60)}

    def claim_all(_number):
        try:
            return [command.id for command in all_taken()]
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        claimed = [command_id for batch in pool.map(claim_all, range(8)) for command_id in batch]
    assert len(claimed) == 60
    assert set(claimed) == ids


def test_the_place_in_the_queue(alice, bob):
    first, second = send(bob, ago=20), send(alice, ago=10)
    urgent = send(alice, priority=Priority.HIGH)
    assert [queue_place(each) for each in (urgent, first, second)] == [1, 2, 3]
    assert taken() == urgent
    urgent.refresh_from_db()
    assert [queue_place(each) for each in (urgent, first, second)] == [None, 1, 2]
    Command.objects.filter(id=first.id).update(turn_at=None)
    first.refresh_from_db()
    assert [queue_place(each) for each in (first, second)] == [None, 1]


def test_the_place_of_one_that_is_held_counts_those_that_its_user_has_before_it(alice, settings):
    settings.COMMANDS_IN_FLIGHT = 2
    commands = [command_submit(user=alice, text=f"echo {number}") for number in range(5)]
    assert [each.held for each in commands] == [False, False, True, True, True]
    assert [queue_place(each) for each in commands] == [1, 2, 3, 4, 5]


# --- Messages that are lost, and that are many ----------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_the_sweep_makes_up_for_messages_that_were_lost(alice, sandbox, monkeypatch):
    """The broker is emptied after each step: nobody but the sweep wakes a stage."""
    woken = []
    monkeypatch.setattr(tasks, "wake", woken.append)
    commands = [command_submit(user=alice, text="echo hello") for _ in range(3)]
    for _ in range(100):
        tasks.sweep()
        for stage in woken:
            tasks.advance(str(stage))
        woken.clear()
        if not Command.objects.filter(finished_at=None).exists():
            break
        Command.objects.filter(finished_at=None).update(due_at=timezone.now())
    assert {Command.objects.get(id=each.id).status for each in commands} == {Status.COMPLETED}


def test_a_worker_that_finds_more_than_it_takes_calls_another_once(alice, sandbox, monkeypatch):
    monkeypatch.setattr(engine, "BUDGET_SECONDS", 600)
    woken = []
    for _ in range(4):
        send(alice)
    monkeypatch.setattr(engine, "wake", lambda stage, **_: woken.append(stage))
    engine.work(Stage.SEGMENTATION)
    assert woken.count(Stage.SEGMENTATION) == 1
    assert Command.objects.filter(stage=Stage.RUNNER).count() == 4


def test_a_worker_whose_time_is_over_leaves_the_rest_to_another_message(alice, sandbox, monkeypatch):
    woken = []
    for _ in range(3):
        send(alice)
    monkeypatch.setattr(engine, "wake", lambda stage, **_: woken.append(stage))
    monkeypatch.setattr(engine, "BUDGET_SECONDS", 0)
    engine.work(Stage.SEGMENTATION)
    assert Command.objects.filter(status=Status.QUEUED).count() == 2
    assert woken.count(Stage.SEGMENTATION) == 2


# --- A service that is busy -----------------------------------------------------------------------------------------


def test_when_places_get_free_the_highest_priority_is_the_first_to_try(alice, sandbox, settings, monkeypatch):
    settings.SERVICE_MAX_IN_FLIGHT = 1
    monkeypatch.setattr(engine, "BUSY_SECONDS", 600)
    normal, urgent = send(alice, ago=10), None
    with protected(sandbox.segmentation.url, "GET"):
        engine.work(Stage.SEGMENTATION)  # ends, though what it could not hand over is due
        urgent = send(alice, priority=Priority.HIGH)
        engine.work(Stage.SEGMENTATION)  # does not try: the service was busy just now
        assert not urgent.stage_runs.exists()
    engine.forget_busy()
    assert taken() == urgent
    normal.refresh_from_db()
    assert normal.stage_runs.get().error_code == "segmentation_busy"


def test_what_waits_for_a_busy_instance_holds_up_no_other(alice):
    of_a, of_any = send(alice, ago=10), send(alice)
    Command.objects.filter(id=of_a.id).update(target="a")
    polled = send(alice)
    Command.objects.filter(id=polled.id).update(turn_at=None, due_at=timezone.now())
    assert taken(passed_over=["a", ""]) == polled
    assert taken(passed_over=["a", ""]) is None
    assert taken(passed_over=["a"]) == of_any
    assert taken(passed_over=["a"]) is None
    assert taken() == of_a


# --- The plan of the claim ------------------------------------------------------------------------------------------


@pytest.mark.slow  # a hundred thousand rows
@pytest.mark.skipif(connection.vendor != "postgresql", reason="reads its plan")
def test_the_claim_reads_a_few_rows_of_a_hundred_thousand(alice):
    model = send(alice)
    now = timezone.now()
    with connection.cursor() as cursor:
        cursor.execute("CREATE TEMPORARY TABLE many AS SELECT c.* FROM commands_command c, generate_series(1, 100000)")
        cursor.execute("UPDATE many SET id = gen_random_uuid(), turn_at = turn_at + random() * interval '1 day'")
        cursor.execute(
            "UPDATE many SET turn_at = NULL, due_at = %s::timestamptz + random() * interval '1 h', status = 'running',"
            " stage = 'runner' WHERE random() < 0.5",
            [now],
        )
        cursor.execute("INSERT INTO commands_command SELECT * FROM many")
        cursor.execute("ANALYZE commands_command")
    for stage in (Stage.SEGMENTATION, Stage.RUNNER):
        with CaptureQueriesContext(connection) as queries:
            lease_claim_next(stage=stage)
        with connection.cursor() as cursor:
            cursor.execute("EXPLAIN (ANALYZE, BUFFERS, FORMAT TEXT) " + queries[0]["sql"])
            plan = "\n".join(row[0] for row in cursor.fetchall())
        assert "command_waiting" in plan, plan
        assert "command_in_work" in plan, plan
        assert "Seq Scan" not in plan, plan
        assert "Sort" not in plan, plan
    assert model.turn_at == turn_of(model)
