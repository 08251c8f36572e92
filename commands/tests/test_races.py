"""Several at once at one command, in real threads and transactions: whatever comes of it, its events tell it."""

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from commands.deadlines import deadlines_enforce
from commands.leases import lease_claim
from commands.models import Command, CommandEvent, StageRun
from commands.pipeline import engine
from commands.services import as_submitted, command_cancel, command_submit
from commands.states import TRANSITIONS, Status
from commands.transitions import StaleCommandError, command_transition
from gateway.api.errors import ApiError, ErrorCode

pytestmark = pytest.mark.django_db(transaction=True)

ROUNDS = 5


def at_once(*acts):
    """Do all of it at the same time. Return what each came to, an ApiError as its code."""
    barrier = threading.Barrier(len(acts))

    def done(act):
        try:
            barrier.wait()
            return act()
        except ApiError as error:
            return error.error_code
        except StaleCommandError:
            return "stale"
        finally:
            connection.close()

    with ThreadPoolExecutor(len(acts)) as pool:
        return list(pool.map(done, acts))


def check_history(command):
    """Return the statuses that the command had, checked: each follows the one before, and the last one stands."""
    command.refresh_from_db()
    events = list(command.events.order_by("seq"))
    assert [event.seq for event in events] == list(range(1, command.last_seq + 1))
    statuses = [Status(event.status) for event in events]
    assert all(new in TRANSITIONS[old] for old, new in itertools.pairwise(statuses))
    assert statuses[-1] == command.status
    return statuses


def in_status(alice, *statuses, **values):
    command = command_submit(user=alice, text="echo hello", **values)
    for status in statuses:
        command_transition(command, status)
    return command


def cancel(command):
    return lambda: command_cancel(command=Command.objects.get(id=command.id)).status


def test_a_cancellation_and_the_completion(alice):
    for _ in range(ROUNDS):
        command = in_status(alice, Status.SEGMENTING, Status.RUNNING, Status.ARCHIVING)
        seen = Command.objects.get(id=command.id)

        def complete(seen=seen):
            command_transition(seen, Status.COMPLETED)
            return "done"

        outcomes = at_once(cancel(command), complete)
        statuses = check_history(command)
        if statuses[-1] == Status.COMPLETED:
            assert outcomes == [ErrorCode.COMMAND_NOT_CANCELLABLE, "done"]
        else:
            assert outcomes == [Status.CANCELLING, "stale"]
            engine.advance(command.id)
            assert check_history(command)[-2:] == [Status.CANCELLING, Status.CANCELLED]


def test_a_cancellation_and_the_worker_that_takes_it_up(alice, settings):
    settings.SERVICE_URLS = {kind: [] for kind in settings.SERVICE_URLS}
    for _ in range(ROUNDS):
        command = in_status(alice)
        at_once(cancel(command), lambda command=command: engine.advance(command.id))
        engine.advance(command.id)
        statuses = check_history(command)
        assert statuses[-1] == Status.CANCELLED
        if Status.SEGMENTING not in statuses:
            assert not StageRun.objects.filter(command=command).exists()


def test_one_that_is_claimed_and_cancelled_is_not_begun(alice):
    command = in_status(alice)
    claimed = lease_claim(command_id=command.id)
    command_cancel(command=command)
    engine._run(claimed)
    assert check_history(command) == [Status.QUEUED, Status.CANCELLED]
    assert not StageRun.objects.exists()


@pytest.mark.parametrize("begun", [[], [Status.SEGMENTING, Status.RUNNING]])
def test_many_cancellations_are_one(alice, begun):
    command = in_status(alice, *begun)
    outcomes = at_once(*[cancel(command)] * 8)
    assert set(outcomes) == {Status.CANCELLING if begun else Status.CANCELLED}
    assert len(check_history(command)) == len(begun) + 2


@pytest.mark.parametrize("begun", [[], [Status.SEGMENTING, Status.RUNNING]])
def test_a_cancellation_and_the_deadline(alice, begun):
    for _ in range(ROUNDS):
        command = in_status(alice, *begun, deadline=timezone.now() + timedelta(hours=1))
        Command.objects.filter(id=command.id).update(deadline=timezone.now())
        at_once(cancel(command), deadlines_enforce, deadlines_enforce)
        assert len(check_history(command)) == len(begun) + 2
        last = command.events.last()
        assert (last.event, last.data.get("code")) in {
            (str(command.status), None),
            (str(command.status), "deadline_passed"),
        }
        assert command.error_code == ("deadline_passed" if command.status == Status.FAILED else "")


def test_twenty_requests_with_one_key_make_one_command_with_one_body(alice):
    """Half of them with another body. Those of the winner get the answer of that time, the others are refused."""

    def submit(number):
        text = f"echo {number % 2}"
        command = as_submitted(command_submit(user=alice, idempotency_key="k", text=text, parameters={"a": [1.5]}))
        return command.id, command.text, command.parameters, command.created_at, command.status

    outcomes = at_once(*[lambda number=number: submit(number) for number in range(20)])
    stored = Command.objects.get()
    first = (stored.id, stored.text, stored.parameters, stored.created_at, "queued")
    assert [outcomes.count(first), outcomes.count(ErrorCode.IDEMPOTENCY_KEY_REUSED)] == [10, 10]
    assert CommandEvent.objects.count() == 1
