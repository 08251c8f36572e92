"""Sends a worker to a command. By name, so that services need not import the tasks that call them."""

import logging
from uuid import UUID

from celery import current_app
from django.db import transaction
from kombu.exceptions import OperationalError

from commands.leases import REDISPATCH_AFTER

logger = logging.getLogger(__name__)


def dispatch(command_id: UUID, *, delay: float = 0) -> None:
    """Send the message, `delay` seconds ahead. One that cannot be sent costs time only: the sweep sends another."""
    try:
        current_app.send_task(
            "commands.tasks.advance",
            args=[str(command_id)],
            countdown=delay or None,
            # By then the sweep has sent another: a backlog must not multiply its own messages.
            expires=delay + REDISPATCH_AFTER.total_seconds(),
        )
    except (OperationalError, OSError) as error:
        logger.warning("no message for command %s, the sweep will send one: %r", command_id, error)


def dispatch_on_commit(command_id: UUID) -> None:
    transaction.on_commit(lambda: dispatch(command_id), robust=True)
