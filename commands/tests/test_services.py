"""A command is stored once, and what happens to it is told once it is so."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from celery import current_app
from django.db import connection, transaction
from django.utils import timezone
from kombu import Connection, pools

from commands import tasks
from commands.events import command_event_recorded
from commands.leases import lease_claim_next
from commands.models import Command, CommandEvent
from commands.services import command_submit
from commands.states import Stage, Status
from commands.transitions import command_transition
from gateway.api.errors import ApiError, ErrorCode


@pytest.fixture
def messages(monkeypatch):
    """The messages that would go to workers."""
    sent = []
    monkeypatch.setattr(
        "commands.dispatch.current_app.send_task", lambda name, args, **options: sent.append((name, args[0], options))
    )
    return sent


@pytest.mark.django_db(transaction=True)
def test_a_submitted_command_is_stored_with_its_first_event_and_a_worker_is_sent(alice, messages):
    command = command_submit(user=alice, text="echo hello")
    assert list(command.events.values_list("seq", "event")) == [(1, "queued")]
    assert [message[:2] for message in messages] == [("commands.tasks.advance", "segmentation")]


@pytest.mark.django_db(transaction=True)
def test_a_broker_that_is_down_loses_nothing(alice, monkeypatch, caplog):
    nowhere = Connection("redis://127.0.0.1:1/0", transport_options=current_app.conf.broker_transport_options)
    monkeypatch.setattr(current_app.amqp, "_producer_pool", pools.producers[nowhere])
    command = command_submit(user=alice, text="echo hello")
    assert "the sweep will send one" in caplog.text
    woken = []
    monkeypatch.setattr(tasks, "wake", woken.append)
    tasks.sweep()
    assert woken == [Stage.SEGMENTATION]
    assert lease_claim_next(stage=Stage.SEGMENTATION) == (command, False)


@pytest.mark.django_db(transaction=True)
def test_the_same_key_and_body_at_once_make_one_command(alice, messages):
    barrier = threading.Barrier(6)

    def submit(_number):
        barrier.wait()
        try:
            return command_submit(user=alice, idempotency_key="one", text="echo hello").id
        finally:
            connection.close()

    with ThreadPoolExecutor(6) as pool:
        assert len(set(pool.map(submit, range(6)))) == 1
    assert Command.objects.count() == 1
    assert CommandEvent.objects.count() == 1


@pytest.mark.django_db
def test_the_same_key_with_another_body_is_refused(alice):
    command_submit(user=alice, idempotency_key="one", text="echo hello")
    with pytest.raises(ApiError) as raised:
        command_submit(user=alice, idempotency_key="one", text="echo other")
    assert raised.value.error_code == ErrorCode.IDEMPOTENCY_KEY_REUSED
    assert Command.objects.count() == 1


@pytest.mark.django_db
def test_a_key_belongs_to_its_user(alice, bob):
    first = command_submit(user=alice, idempotency_key="one", text="echo hello")
    assert command_submit(user=bob, idempotency_key="one", text="echo hello").id != first.id


class TestBroadcast:
    pytestmark = pytest.mark.django_db(transaction=True)

    def test_what_did_not_get_through_is_sent_again_until_it_does(self, alice):
        heard = []

        def listener(events, **_kwargs):
            if not heard:
                heard.append("failed")
                raise ConnectionError
            heard.extend(event.seq for event in events)

        command_event_recorded.connect(listener)
        try:
            command = command_submit(user=alice, text="echo hello")
            assert command.events.get().broadcast_at is None
            CommandEvent.objects.update(at=timezone.now() - timedelta(minutes=1))
            tasks.rebroadcast()
        finally:
            command_event_recorded.disconnect(listener)
        assert heard == ["failed", 1]
        assert command.events.get().broadcast_at is not None
        tasks.rebroadcast()
        assert heard == ["failed", 1]

    def test_nothing_is_told_of_what_was_rolled_back(self, alice):
        heard = []

        def listener(events, **_kwargs):
            heard.extend(event.event for event in events)

        command = command_submit(user=alice, text="echo hello")
        command_event_recorded.connect(listener)
        try:
            with transaction.atomic():
                command_transition(command, Status.SEGMENTING)
                transaction.set_rollback(True)
        finally:
            command_event_recorded.disconnect(listener)
        assert heard == []
