"""Takes in the file that a stage left: fetch it, check it, store it. No transaction is open meanwhile."""

import logging
from dataclasses import dataclass
from typing import Any

from commands.leases import lease_renew
from commands.models import Command, CommandResult
from commands.pipeline.stages import StageSpec
from files.formats import FormatError
from files.models import StoredFile
from files.services import file_store
from gateway.rows import insert
from integrations.clients.base import StageClient, WorkReport
from integrations.clients.errors import ServiceError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Intake:
    """A checked file whose bytes are in the storage; `save` belongs into the transaction that makes use of it."""

    spec: StageSpec
    file: StoredFile
    result: CommandResult | None

    def save(self) -> dict[str, Any]:
        """Save the rows. Return the fields of the command that change with them."""
        insert(self.file)
        if self.result is not None:
            insert(self.result)
        return {self.spec.file_field: self.file}

    @property
    def event_data(self) -> dict[str, Any]:
        file = self.file
        return {"file": {"id": str(file.id), "kind": file.kind, "name": file.name, "size": file.size}}


def take_in(command: Command, spec: StageSpec, client: StageClient[Any], file_id: str) -> Intake:
    """Raises ServiceError, FormatError or OSError (the storage)."""
    lease_renew(command)
    text = client.fetch(file_id)
    result = spec.read(command, text)
    lease_renew(command)
    file = file_store(owner_id=command.user_id, kind=spec.kind, name=file_id, text=text, folder=str(command.id))
    return Intake(spec, file, result)


def take_in_what_is_left(
    command: Command, spec: StageSpec, client: StageClient[Any], report: WorkReport
) -> Intake | None:
    """Take in what work that did not succeed left behind, if it left anything that can be read."""
    if report.file_id is None:
        return None
    try:
        return take_in(command, spec, client, report.file_id)
    except (ServiceError, FormatError, OSError) as error:
        logger.warning("nothing of %s could be kept for command %s: %r", spec.kind, command.id, error)
        return None
