import ast
import itertools
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from django.conf import settings
from django.db import connection

from commands.models import Command, CommandEvent
from commands.services import command_submit
from commands.states import TERMINAL, TRANSITIONS, Status
from commands.transitions import IllegalTransitionError, StaleCommandError, command_event, command_transition

PAIRS = list(itertools.product(Status, Status))
ALLOWED = [(old, new) for old, new in PAIRS if new in TRANSITIONS[old]]
FORBIDDEN = [pair for pair in PAIRS if pair not in ALLOWED]


@pytest.fixture
def command(alice):
    return command_submit(user=alice, text="echo hello")


def put_into(command, status):
    """Bring the row into a status as the transitions would leave it."""
    if status in TERMINAL:
        if status is not Status.CANCELLED:
            command_transition(command, Status.SEGMENTING)
            command_transition(command, Status.FAILED)
        else:
            command_transition(command, Status.CANCELLED)
    Command.objects.filter(id=command.id).update(status=status)
    command.refresh_from_db()
    return command


@pytest.mark.django_db
@pytest.mark.parametrize(("old", "new"), ALLOWED)
def test_what_the_table_allows_is_done_and_recorded(command, old, new):
    put_into(command, old)
    seq = command.last_seq
    command_transition(command, new)
    stored = Command.objects.get(id=command.id)
    assert stored.status == new
    assert stored.last_seq == seq + 1
    assert (stored.finished_at is not None) == (new in TERMINAL)
    event = stored.events.get(seq=seq + 1)
    assert (event.event, event.status) == (new, new)


@pytest.mark.django_db
@pytest.mark.parametrize(("old", "new"), FORBIDDEN)
def test_what_the_table_does_not_know_is_refused_and_changes_nothing(command, old, new):
    put_into(command, old)
    before = Command.objects.filter(id=command.id).values().get()
    with pytest.raises(IllegalTransitionError):
        command_transition(command, new)
    assert Command.objects.filter(id=command.id).values().get() == before


def test_no_state_follows_a_terminal_one():
    assert all(not TRANSITIONS[status] for status in TERMINAL)
    assert all(TRANSITIONS[status] for status in Status if status not in TERMINAL)


@pytest.mark.django_db
def test_who_saw_an_older_status_changes_nothing(command):
    stale = Command.objects.get(id=command.id)
    command_transition(command, Status.SEGMENTING)
    with pytest.raises(StaleCommandError):
        command_transition(stale, Status.CANCELLED)
    assert Command.objects.get(id=command.id).status == Status.SEGMENTING
    assert command.events.count() == 2


@pytest.mark.django_db
def test_who_does_not_hold_the_lease_changes_nothing(command):
    with pytest.raises(StaleCommandError):
        command_transition(command, Status.SEGMENTING, lease_owner="somebody else")
    with pytest.raises(StaleCommandError):
        command_event(command, "progress", lease_owner="somebody else", progress=50)
    assert Command.objects.get(id=command.id).progress == 0
    assert command.events.count() == 1


@pytest.mark.django_db(transaction=True)
def test_of_many_who_try_the_same_step_at_once_one_succeeds(command):
    def step(_number):
        try:
            command_transition(Command.objects.get(id=command.id), Status.SEGMENTING)
        except (StaleCommandError, IllegalTransitionError):
            return False
        else:
            return True
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(step, range(8))) == [False] * 7 + [True]


@pytest.mark.django_db(transaction=True)
def test_events_recorded_at_once_get_numbers_without_gap_or_repeat(command):
    Command.objects.filter(id=command.id).update(lease_owner="all of them")

    def record(number):
        try:
            own_view = Command.objects.get(id=command.id)
            command_event(own_view, "progress", lease_owner="all of them", data={"number": number})
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(record, range(40)))
    assert list(CommandEvent.objects.filter(command=command).values_list("seq", flat=True)) == list(range(1, 42))


def test_nothing_but_the_transitions_writes_a_status():
    def writes_status(node):
        if isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            return any(isinstance(target, ast.Attribute) and target.attr == "status" for target in targets)
        return (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in ("update", "create", "bulk_create", "update_or_create")
            and any(keyword.arg == "status" for keyword in node.keywords)
        )

    offenders = []
    for app in ("commands", "notifications", "gateway"):
        for path in Path(settings.BASE_DIR, app).rglob("*.py"):
            if {"tests", "migrations"} & set(path.parts) or path.name == "transitions.py":
                continue
            tree = ast.parse(path.read_text())
            offenders += [f"{path}:{node.lineno}" for node in ast.walk(tree) if writes_status(node)]
    # as_submitted() changes a copy that is never saved
    assert [offender for offender in offenders if "commands/services.py" not in offender] == []
