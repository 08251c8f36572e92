from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from commands import leases
from commands.leases import CLOCK_SKEW, LeaseLostError, command_wake, lease_claim, lease_release, lease_renew
from commands.models import Command
from commands.services import command_submit
from commands.states import Status
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
