"""What alarm rules can watch of commands."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from commands.leases import lease_claim
from commands.models import Command, CommandEvent, Outcome, StageRun
from commands.partitions import Month
from commands.services import command_cancel, command_submit
from commands.transitions import command_event
from integrations.alarms.conditions import look
from integrations.alarms.models import AlarmRule

pytestmark = pytest.mark.django_db


def seen(condition, threshold, **fields):
    """Return what is wrong, with its value."""
    found = look(AlarmRule(condition=condition, threshold=threshold, **fields), timezone.now())
    return {each.subject: each.value for each in found if each.is_so}


def known(condition, threshold):
    found = look(AlarmRule(condition=condition, threshold=threshold), timezone.now())
    return {each.subject: each.is_so for each in found}


def test_the_queue_is_what_is_due_and_in_nobody_s_hands(alice):
    _waiting, claimed, later, ended = (command_submit(user=alice, text="echo a") for _ in range(4))
    assert seen("queue_length", 4) == {"": 4}
    command_cancel(command=ended)
    assert lease_claim(command_id=claimed.id)
    Command.objects.filter(id=later.id).update(due_at=timezone.now() + timedelta(hours=1))
    assert seen("queue_length", 1) == {"": 1}
    assert seen("queue_length", 2) == {}
    Command.objects.filter(id=claimed.id).update(lease_expires_at=timezone.now())  # its worker died
    assert seen("queue_length", 2) == {"": 2}


def test_a_command_is_stuck_when_nothing_has_happened_to_it_for_so_long(alice):
    stuck, lively, ended = (command_submit(user=alice, text="echo a") for _ in range(3))
    command_cancel(command=ended)
    old = timezone.now() - timedelta(minutes=30)
    Command.objects.update(created_at=old)
    CommandEvent.objects.update(at=old)
    assert seen("stuck_commands", 31) == {}
    assert seen("stuck_commands", 30) == {"": 2}
    claimed = lease_claim(command_id=lively.id)
    command_event(claimed, "progress", lease_owner=claimed.lease_owner, progress=10)
    found = look(AlarmRule(condition="stuck_commands", threshold=30), timezone.now())
    assert [(each.value, each.detail) for each in found] == [(1, str(stuck.id))]


def test_work_fails_by_the_fault_of_a_service_and_not_of_what_it_was_asked(alice):
    now = timezone.now()
    command = command_submit(user=alice, text="echo a")

    def tries(stage, *codes):
        """An empty code is a success."""
        begin = StageRun.objects.count()
        StageRun.objects.bulk_create(
            StageRun(
                command=command,
                stage=stage,
                attempt=begin + number,
                finished_at=now,
                error_code=code and f"{stage}_{code}",
                outcome=Outcome.FAILED if code else Outcome.SUCCEEDED,
            )
            for number, code in enumerate(codes)
        )

    tries("runner", "timeout", "unknown_call", "refused", "failed", "", "", "", "", "", "")
    tries("segmentation", "error", "error", "error", "error")  # too few to say anything
    tries("archive", *[""] * 9)
    # No call was made of these: they count neither as errors nor as calls.
    tries("runner", *["left_alone", "busy"] * 5)
    assert seen("call_errors", 20) == {"runner": 20}
    assert seen("call_errors", 21) == {}
    assert seen("call_errors", 20, kind="archive") == {}
    assert known("call_errors", 20) == {"segmentation": None, "runner": True, "archive": False}
    StageRun.objects.update(finished_at=now - timedelta(minutes=5))
    assert known("call_errors", 1) == {"segmentation": False, "runner": False, "archive": False}


def test_no_look_reads_the_history_of_commands(alice):
    """The plan names an index that holds only what has not finished, or the newest rows."""
    command_submit(user=alice, text="echo a")
    tries, events = "sqlite_autoindex_commands_stagerun_1", "sqlite_autoindex_commands_commandevent_1"
    if connection.vendor == "postgresql":
        tries, events = "commands_stagerun_pkey", f"{Month.of(timezone.now()).table}_pkey"
    expected = {
        "queue_length": ["command_unfinished"],
        "stuck_commands": ["command_unfinished", events],
        "call_errors": [tries],
    }
    for condition, indexes in expected.items():
        with CaptureQueriesContext(connection) as captured:
            seen(condition, 1)
        [query] = [each["sql"] for each in captured if "commands_" in each["sql"]]
        plan = plan_of(query)
        assert all(index in plan for index in indexes), plan


def plan_of(sql):
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SET LOCAL enable_seqscan = off")  # there are too few rows for an index to be worth it
            cursor.execute(f"EXPLAIN {sql}")
        else:
            cursor.execute(f"EXPLAIN QUERY PLAN {sql}")
        return "\n".join(str(row) for row in cursor.fetchall())
