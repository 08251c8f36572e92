"""Each stage has a queue: a worker that is there for one service makes no call of another."""

from contextlib import suppress
from queue import Empty

import pytest
import redis
from celery import current_app
from django.conf import settings
from django.utils import timezone

from commands import tasks
from commands.leases import command_wake
from commands.models import Command, StageRun
from commands.pipeline import stage as stage_work
from commands.services import command_cancel, command_submit, runner_report
from commands.states import Stage, Status

pytestmark = pytest.mark.django_db(transaction=True)

NAMES = [queue.name for queue in current_app.amqp.queues.values()]


class Broker:
    """The real one, from which this test takes what workers would."""

    def __init__(self, connection):
        self._queues = {name: connection.SimpleQueue(current_app.amqp.queues[name]) for name in NAMES}
        self.clear()

    def clear(self):
        for queue in self._queues.values():
            queue.clear()

    def take(self):
        """Return the messages that there are: for each its queue, its task and its arguments."""
        taken = []
        for name, queue in self._queues.items():
            with suppress(Empty):
                while message := queue.get(block=False):
                    message.ack()
                    taken.append((name, message.headers["task"], message.payload[0]))
        return taken


@pytest.fixture
def broker():
    with current_app.connection_for_read() as connection:
        yield Broker(connection)


TO_THE_RUNNER = [("runner", "commands.tasks.advance", ["runner"])]


@pytest.fixture
def running(alice, sandbox, slow_work, broker):
    """A command whose segmentation is done, and whose runner has not heard of it."""
    command = command_submit(user=alice, text="echo hello")
    assert broker.take() == [("segmentation", "commands.tasks.advance", ["segmentation"])]
    tasks.advance("segmentation")
    command.refresh_from_db()
    assert (command.status, command.lease_owner) == (Status.RUNNING, "")
    assert not command.stage_runs.filter(stage=Stage.RUNNER).exists()
    return command


def test_a_command_goes_from_queue_to_queue_and_no_worker_does_what_is_not_its_own(running, broker):
    seen, queues = set(StageRun.objects.values_list("id", flat=True)), ["segmentation"]
    while not running.has_ended:
        [(queue, stage)] = {(queue, *args) for queue, _task, args in broker.take()}  # of each look at it, one
        assert queue == stage
        for other in set(Stage) - {stage}:  # as a message does that came late
            tasks.advance(str(other))
        assert broker.take() == []
        tasks.advance(stage)
        begun = StageRun.objects.exclude(id__in=seen)
        assert {run.stage for run in begun} <= {queue}
        seen |= {run.id for run in begun}
        queues += [queue] if queue != queues[-1] else []
        Command.objects.filter(finished_at=None).update(due_at=timezone.now())  # no waiting between polls
        running.refresh_from_db()
    assert running.status == Status.COMPLETED
    assert queues == ["segmentation", "runner", "archive"]


def test_whoever_sends_a_worker_sends_one_of_the_stage(running, broker):
    assert broker.take() == TO_THE_RUNNER
    tasks.sweep()
    assert broker.take() == TO_THE_RUNNER
    tasks.advance("runner")
    broker.clear()
    task = running.stage_runs.get(stage=Stage.RUNNER).remote_id
    runner_report(command_id=running.id, body={"id": task, "status": "failed"})
    assert broker.take() == TO_THE_RUNNER
    command_cancel(command=running)
    assert broker.take() == TO_THE_RUNNER


def test_a_command_that_was_woken_while_it_was_handed_over_is_handed_over_all_the_same(
    alice, sandbox, broker, monkeypatch
):
    command = command_submit(user=alice, text="echo hello")
    broker.clear()
    take_in = stage_work.take_in

    def while_somebody_wakes_it(*args):
        command_wake(command_id=command.id)
        return take_in(*args)

    monkeypatch.setattr(stage_work, "take_in", while_somebody_wakes_it)
    tasks.advance("segmentation")
    assert broker.take() == TO_THE_RUNNER
    command.refresh_from_db()
    assert (command.status, command.lease_owner) == (Status.RUNNING, "")


def test_messages_arrive_though_redis_was_emptied_under_a_sender(alice, broker):
    command_submit(user=alice, text="echo before")
    assert broker.take() != []
    redis.Redis.from_url(settings.CELERY_BROKER_URL).flushdb()
    command_submit(user=alice, text="echo after")
    assert broker.take() == [("segmentation", "commands.tasks.advance", ["segmentation"])]
