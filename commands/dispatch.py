"""Sends a worker to a command. By name, so that services need not import the tasks that call them.

Each stage has a queue of its own, and workers of its own: a service that hangs holds those of its stage and no others.
"""

import logging
import math
from uuid import UUID

from celery import current_app
from django.db import transaction
from kombu.exceptions import OperationalError

from commands.leases import REDISPATCH_AFTER
from commands.states import Stage

logger = logging.getLogger(__name__)


def dispatch(command_id: UUID, *, stage: Stage, delay: float = 0) -> None:
    """Send the message to the queue of the stage that is to be worked on, `delay` seconds ahead.

    One that cannot be sent costs time only: the sweep sends another.
    """
    try:
        current_app.send_task(
            "commands.tasks.advance",
            args=[str(command_id), str(stage)],
            queue=str(stage),
            countdown=_countdown(delay),
            # By then the sweep has sent another: a backlog must not multiply its own messages.
            expires=delay + REDISPATCH_AFTER.total_seconds(),
        )
    except (OperationalError, OSError) as error:
        logger.warning("no message for command %s, the sweep will send one: %r", command_id, error)


def dispatch_on_commit(command_id: UUID, *, stage: Stage) -> None:
    transaction.on_commit(lambda: dispatch(command_id, stage=stage), robust=True)


def _countdown(delay: float) -> float | None:
    """RabbitMQ delays messages of quorum queues by whole seconds, and Celery refuses to send it less than one."""
    if str(current_app.conf.broker_url).startswith(("amqp", "pyamqp")):
        delay = math.ceil(delay)
    return delay or None
