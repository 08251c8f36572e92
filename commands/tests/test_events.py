"""The thread that broadcasts what a process recorded."""

import os
import threading
import warnings

import pytest
from django.db import OperationalError
from django.utils import timezone

from commands import events
from commands.events import command_event_recorded, hand_over
from commands.models import Command, CommandEvent
from commands.states import Status
from commands.transitions import command_event, command_transition, first_event

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _by_the_thread(monkeypatch):
    """As in a running gateway; other tests broadcast without it."""
    monkeypatch.setattr(events, "hand_over", hand_over)
    yield
    events.flush()


@pytest.fixture
def listen():
    """Call it with a receiver of the news."""
    receivers = []

    def connect(receiver):
        receivers.append(receiver)
        command_event_recorded.connect(receiver, weak=False)

    yield connect
    events.flush()
    for receiver in receivers:
        command_event_recorded.disconnect(receiver)


@pytest.fixture
def heard(listen):
    """Return the numbers of the events that were heard."""
    numbers = []
    listen(lambda events, **_kwargs: numbers.extend(event.seq for event in events))
    return numbers


@pytest.fixture
def stuck(listen):
    """A listener that hangs until the test lets it go on. Return how."""
    begun, go_on = threading.Event(), threading.Event()

    def hang(**_kwargs):
        begun.set()
        assert go_on.wait(20)

    listen(hang)
    yield begun, go_on
    go_on.set()


def new_command(user):
    now = timezone.now()
    command = Command(user=user, text="echo hello", due_at=now)
    first_event(command)
    return command


def happen(command, times=1):
    for _ in range(times):
        command_event(command, "progress", lease_owner="")


def unsent():
    return list(CommandEvent.objects.filter(broadcast_at=None).values_list("seq", flat=True))


def test_what_was_recorded_is_sent_in_order_and_put_down_at_once(alice, heard, monkeypatch):
    put_down, write = [], events._put_down_as_sent
    monkeypatch.setattr(events, "_put_down_as_sent", lambda sent: (put_down.append(len(sent)), write(sent)))
    monkeypatch.setattr(events, "PUT_DOWN_SECONDS", 60)
    command = new_command(alice)
    command_transition(command, Status.SEGMENTING)
    happen(command, 20)
    events.flush()
    assert heard == list(range(1, 23))
    assert unsent() == []
    assert put_down == [22]


def test_what_was_sent_is_put_down_soon_though_nothing_else_happens(alice, heard, monkeypatch):
    done, write = threading.Event(), events._put_down_as_sent
    monkeypatch.setattr(events, "_put_down_as_sent", lambda sent: (write(sent), done.set()))
    monkeypatch.setattr(events, "PUT_DOWN_SECONDS", 0.01)
    new_command(alice)
    assert done.wait(20)
    assert (heard, unsent()) == ([1], [])


def test_nobody_waits_for_a_listener_that_hangs(alice, stuck, heard):
    begun, go_on = stuck
    command = new_command(alice)
    assert begun.wait(20)
    happen(command, 3)
    assert (heard, unsent()) == ([], [1, 2, 3, 4])
    go_on.set()
    events.flush()
    assert (heard, unsent()) == ([1, 2, 3, 4], [])


def test_what_is_too_much_to_keep_is_left_to_the_sweep(alice, stuck, heard, monkeypatch):
    begun, go_on = stuck
    command = new_command(alice)
    assert begun.wait(20)
    monkeypatch.setattr(events, "MAX_WAITING", 2)
    happen(command, 5)
    go_on.set()
    events.flush()
    assert (heard, unsent()) == ([1, 2, 3], [4, 5, 6])


def test_what_a_listener_did_not_take_is_left_to_the_sweep(alice, listen):
    heard = []

    def deaf_at_first(events, **_kwargs):
        heard.append([event.seq for event in events])
        if len(heard) == 1:
            raise ConnectionError

    listen(deaf_at_first)
    command = new_command(alice)
    events.flush()
    happen(command)
    events.flush()
    assert (heard, unsent()) == ([[1], [2]], [1])


def test_a_database_that_fails_ends_nothing(alice, heard, monkeypatch):
    def fail(_sent):
        raise OperationalError("the connection is gone")

    command = new_command(alice)
    with monkeypatch.context() as patch:
        patch.setattr(events, "_put_down_as_sent", fail)
        events.flush()
    happen(command)
    events.flush()
    assert (heard, unsent()) == ([1, 2], [1])


def test_a_child_process_has_a_thread_of_its_own(alice, listen):
    """As a worker's child, which is forked from a process that has sent something."""
    reading, writing = os.pipe()
    listen(lambda events, **_kwargs: os.write(writing, bytes([event.seq for event in events])))
    command = new_command(alice)
    events.flush()
    assert os.read(reading, 10) == b"\1"
    happen(command)
    assert os.read(reading, 10) == b"\2"  # the thread runs, and waits for more
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        child = os.fork()
    if child == 0:
        events._put_down_as_sent = lambda _sent: None  # the connection to the database is the parent's
        hand_over(CommandEvent(command=command, seq=3))
        events.flush()
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reading, 10) == b"\3"
    os.close(reading)
    os.close(writing)


def test_just_those_that_were_sent_are_put_down(alice):
    command, other = new_command(alice), new_command(alice)
    happen(command, 3)
    happen(other)
    events.flush()
    CommandEvent.objects.update(broadcast_at=None)
    first, second, *_rest = CommandEvent.objects.filter(command=command).order_by("seq")
    events.events_broadcast([first, second, CommandEvent.objects.get(command=other, seq=2)])
    sent = CommandEvent.objects.exclude(broadcast_at=None).values_list("command_id", "seq")
    assert set(sent) == {(command.id, 1), (command.id, 2), (other.id, 2)}
