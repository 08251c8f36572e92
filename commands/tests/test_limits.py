"""How many commands a user may have in flight, and what becomes of the rest."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.core.exceptions import ValidationError
from django.db import connection

from accounts.models import Role
from commands import limits, tasks
from commands.limits import forget_limits, in_flight, limit_of
from commands.models import Command, CommandLimit
from commands.queue import held_behind
from commands.services import command_cancel, command_submit
from commands.states import Stage, Status
from commands.steps import step_submit
from commands.tests.test_queue import all_taken, send, taken
from commands.transitions import command_transition

pytestmark = pytest.mark.django_db


def held_of(user):
    return Command.objects.filter(user=user, held=True, finished_at=None).count()


def command_like(command):
    copied = ("user", "text", "due_at", "turn_at", "held", "last_seq")
    return Command(**{name: getattr(command, name) for name in copied})


def fail(command):
    command.refresh_from_db()
    command_transition(command, Status.FAILED)


def test_what_is_sent_beyond_the_limit_is_held_and_goes_by_its_turn_when_others_end(alice, settings):
    settings.COMMANDS_IN_FLIGHT = 2
    first, second, third = (send(alice, ago=30 - number) for number in range(3))
    urgent = send(alice, priority="high")
    assert [each.held for each in (first, second, third, urgent)] == [False, False, True, True]
    assert held_behind(third) == (2, 2, 1)
    assert all_taken() == [first, second]
    fail(first)
    assert taken() == urgent
    fail(second)
    assert taken() == third
    assert (in_flight(alice.pk), held_of(alice)) == (2, 0)


def test_steps_by_themselves_count_too(alice, settings):
    settings.COMMANDS_IN_FLIGHT = 1
    send(alice)
    step = step_submit(user=alice, kind=Stage.SEGMENTATION, text="echo hello")
    assert step.held


def test_one_that_is_held_can_be_cancelled_and_lets_no_other_go(alice, settings):
    settings.COMMANDS_IN_FLIGHT = 1
    first, second, third = (send(alice) for _ in range(3))
    command_cancel(command=second)
    assert (second.status, second.held) == (Status.CANCELLED, False)
    assert (in_flight(alice.pk), held_of(alice)) == (1, 1)
    fail(first)
    assert taken() == third


def test_whoever_sends_a_thousand_does_not_hold_up_whoever_sends_one(alice, bob, settings):
    settings.COMMANDS_IN_FLIGHT = 5
    *_others, one = [command_submit(user=alice, text="echo hello") for _ in range(6)]
    Command.objects.bulk_create(command_like(one) for _ in range(994))
    last = command_submit(user=bob, text="echo hello")
    assert [each.user_id for each in all_taken()] == [alice.pk] * 5 + [bob.pk]
    assert (last.held, held_of(alice)) == (False, 995)


# --- At once --------------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_the_limit_is_exact_when_many_send_and_many_end_at_once(alice, settings):
    settings.COMMANDS_IN_FLIGHT = 7
    barrier = threading.Barrier(20)
    most = []

    def send_and_end(number):
        barrier.wait()
        try:
            for _ in range(4):
                command_submit(user=alice, text=f"echo {number}")
                most.append(in_flight(alice.pk))
                command = taken() if number % 2 else None
                if command is not None:
                    command_transition(command, Status.FAILED, lease_owner=command.lease_owner)
                most.append(in_flight(alice.pk))
        finally:
            connection.close()

    with ThreadPoolExecutor(20) as pool:
        list(pool.map(send_and_end, range(20)))
    assert max(most) == 7
    tasks.sweep()  # what a race left
    assert Command.objects.count() == 80
    unfinished = Command.objects.filter(finished_at=None).count()
    assert unfinished >= 40
    assert (in_flight(alice.pk), held_of(alice)) == (7, unfinished - 7)


# --- What the sweep lets go -----------------------------------------------------------------------------------------


def test_the_sweep_lets_go_what_a_higher_limit_allows_of_each_user_in_turn(alice, bob, settings, monkeypatch):
    settings.COMMANDS_IN_FLIGHT = 1
    for user in (alice, bob):
        for _ in range(4):
            send(user)
    monkeypatch.setattr(limits, "SWEPT_USERS", 1)
    woken = []
    monkeypatch.setattr(tasks, "wake", woken.append)
    settings.COMMANDS_IN_FLIGHT = 3
    forget_limits()
    for _ in range(3):  # one user at a time, and once nobody
        tasks.sweep()
    assert [in_flight(user.pk) for user in (alice, bob)] == [3, 3]
    assert Stage.SEGMENTATION in woken


def test_a_lower_limit_lets_nothing_go_until_there_is_room(alice, settings):
    settings.COMMANDS_IN_FLIGHT = 3
    commands = [send(alice) for _ in range(5)]
    settings.COMMANDS_IN_FLIGHT = 2
    forget_limits()
    fail(commands[0])
    assert (in_flight(alice.pk), held_of(alice)) == (2, 2)
    fail(commands[1])
    assert (in_flight(alice.pk), held_of(alice)) == (2, 1)


# --- Whose limit ----------------------------------------------------------------------------------------------------


def test_the_own_limit_counts_then_the_highest_of_the_roles_then_that_of_everybody(alice, bob, admin, settings):
    settings.COMMANDS_IN_FLIGHT = 9
    parent = Role.objects.create(name="parent")
    roles = [Role.objects.create(name="a"), Role.objects.create(name="b", parent=parent)]
    bob.groups.set(roles)

    def limit():
        forget_limits()
        return limit_of(bob.pk)

    assert limit() == 9
    CommandLimit.objects.create(in_flight=4)
    assert limit() == 4
    CommandLimit.objects.create(role=roles[0], in_flight=2)
    assert limit() == 2
    CommandLimit.objects.create(role=parent, in_flight=3)
    assert limit() == 3
    CommandLimit.objects.create(user=alice, in_flight=50)
    CommandLimit.objects.create(user=bob, in_flight=1)
    assert limit() == 1
    with pytest.raises(ValidationError, match="for everybody already"):
        CommandLimit(in_flight=1).full_clean()
    with pytest.raises(ValidationError, match="not for both"):
        CommandLimit(in_flight=1, user=admin, role=roles[1]).full_clean()


def test_a_limit_is_remembered_for_a_while(alice, django_assert_num_queries):
    limit_of(alice.pk)
    with django_assert_num_queries(0):
        limit_of(alice.pk)
