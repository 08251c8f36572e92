"""The service that has a piece of work."""

import logging
from typing import Any

from commands.leases import lease_renew
from commands.models import Command, StageRun
from integrations.clients.base import StageClient
from integrations.clients.dialects import client_for
from integrations.clients.errors import ServiceError
from integrations.registry import ServiceKind, choose

logger = logging.getLogger(__name__)


def client_of(run: StageRun) -> StageClient[Any]:
    """Return a client of the instance that has the work. Raises TransientError if that one is no longer known."""
    return client_for(choose(ServiceKind(run.stage), prefer=run.instance))


def stop_remote_work(command: Command, run: StageRun) -> None:
    """Ask the service to stop, without waiting for what comes of it: the command ends in any case."""
    try:
        lease_renew(command)
        client_of(run).cancel(run.remote_id)
    except ServiceError as error:
        logger.warning("could not stop the %s of command %s: %r", run.stage, command.id, error)
