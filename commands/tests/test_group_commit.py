"""Commands that are sent to one process at the same time are stored together: with real threads, on PostgreSQL."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import InterfaceError, OperationalError, connection, connections, transaction

from accounts.models import User
from commands import insertion
from commands.limits import _lock_name
from commands.models import Command, CommandEvent
from commands.services import command_submit
from gateway.api.errors import ApiError, ErrorCode
from gateway.locks import transaction_lock

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(connection.vendor != "postgresql", reason="elsewhere one transaction writes at a time"),
]
SECONDS = 20


class Waiting(list[Any]):
    """Those who wait for their turn; lets a test wait until so many do."""

    def __init__(self):
        super().__init__()
        self._come = threading.Semaphore(0)

    def append(self, new):
        super().append(new)
        self._come.release()

    def until_there_are(self, number):
        for _ in range(number):
            assert self._come.acquire(timeout=SECONDS)


@pytest.fixture
def pool():
    with ThreadPoolExecutor(8) as pool:
        yield pool


@pytest.fixture
def together(pool, monkeypatch):
    """Call it with commands: a thread sends each, in this order, and when all wait, one of them stores all."""

    def send_together(*commands, meanwhile=lambda: None):
        waiting = Waiting()
        monkeypatch.setattr(insertion, "_waiting", waiting)
        sent = []
        with insertion._turn:
            for values in commands:
                sent.append(pool.submit(send, values))
                waiting.until_there_are(1)
            meanwhile()
        return sent

    return send_together


def send(values):
    try:
        return command_submit(**{"text": "echo hello", **values})
    finally:
        connections.close_all()


def outcome_of(sent):
    error = sent.exception(SECONDS)
    return sent.result() if error is None else error


def transactions():
    with connection.cursor() as cursor:
        cursor.execute("SELECT xmin FROM commands_command")
        return [row[0] for row in cursor.fetchall()]


def test_many_at_once_are_one_transaction(alice, bob, together):
    people = [alice, bob] * 4
    sent = together(*({"user": user, "text": f"echo {at}"} for at, user in enumerate(people)))
    for at, (user, each) in enumerate(zip(people, sent, strict=True)):
        stored = Command.objects.get(id=outcome_of(each).id)
        assert (stored.user, stored.text, stored.events.get().seq) == (user, f"echo {at}", 1)
    assert (len(transactions()), len(set(transactions()))) == (8, 1)


def test_no_one_gets_more_in_flight_than_they_may_have(alice, bob, together, settings):
    settings.COMMANDS_IN_FLIGHT = 2
    sent = together(*({"user": user} for user in (alice, alice, bob, alice, alice)))
    assert [outcome_of(each).held for each in sent] == [False, False, False, True, True]
    assert [Command.objects.get(id=each.result().id).held for each in sent] == [False, False, False, True, True]


def test_who_was_deleted_meanwhile_takes_nobody_along(alice, bob, together):
    sent = together({"user": alice}, {"user": bob}, {"user": alice}, meanwhile=User.objects.filter(pk=bob.pk).delete)
    first, refused, third = map(outcome_of, sent)
    assert isinstance(refused, ApiError)
    assert refused.error_code == ErrorCode.SESSION_ENDED
    assert set(Command.objects.values_list("id", flat=True)) == {first.id, third.id}
    assert CommandEvent.objects.count() == 2


def test_the_same_key_at_once_is_one_command(alice, bob, together):
    key = {"user": alice, "idempotency_key": "k"}
    first, others, again = map(outcome_of, together(key, {"user": bob}, key))
    assert first.id == again.id != others.id
    assert set(Command.objects.values_list("id", flat=True)) == {first.id, others.id}
    assert CommandEvent.objects.count() == 2


def test_what_holds_up_one_holds_up_no_other(alice, bob, together):
    with transaction.atomic():
        transaction_lock(_lock_name(alice.pk))
        alices, bobs = together({"user": alice}, {"user": bob})
        assert outcome_of(bobs).user == bob
        assert not alices.done()
    assert outcome_of(alices).user == alice
    assert len(set(transactions())) == 2


def test_what_holds_up_who_came_alone_holds_up_no_other(alice, bob, together):
    with transaction.atomic():
        transaction_lock(_lock_name(alice.pk))
        alices = together({"user": alice})[0]
        who_waits_for_a_lock()
        bobs = together({"user": bob})[0]
        assert outcome_of(bobs).user == bob
        assert not alices.done()
    assert outcome_of(alices).user == alice


def test_who_was_taken_along_by_a_thread_that_ended_is_told(alice, bob, together, monkeypatch):
    def ends(*_args):
        raise SystemExit

    monkeypatch.setattr(insertion, "_insert_together", ends)
    ended, others = together({"user": alice}, {"user": bob})
    assert isinstance(ended.exception(SECONDS), SystemExit)
    assert isinstance(outcome_of(others), InterfaceError)


def test_if_the_database_hangs_up_nobody_is_told_that_it_is_stored(alice, bob, together, monkeypatch):
    monkeypatch.setattr(insertion, "_PATIENCE", "SELECT set_config('lock_timeout', '0', true)")
    with transaction.atomic():
        transaction_lock(_lock_name(alice.pk))
        sent = together({"user": bob}, {"user": alice}, {"user": bob})
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s)", [who_waits_for_a_lock()])
        assert [type(outcome_of(each)) for each in sent] == [OperationalError] * 3
    assert not Command.objects.exists()
    assert outcome_of(together({"user": alice})[0]).user == alice


def who_waits_for_a_lock():
    """Wait until a process of the server does, and return its number."""
    deadline = time.monotonic() + SECONDS
    with connection.cursor() as cursor:
        while time.monotonic() < deadline:
            cursor.execute(
                "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
            if found := cursor.fetchall():
                return found[0][0]
    pytest.fail("Nobody waits for a lock.")
