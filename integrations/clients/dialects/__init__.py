"""Services in the field that speak otherwise than the contract says.

A dialect is one module here, `<kind>_<name>.py`, with a class `Client`. docs/development.md has the recipe.
"""

import pkgutil
from importlib import import_module
from typing import Any

from integrations.clients.archive import ArchiveClient
from integrations.clients.base import StageClient
from integrations.clients.errors import NotTakenError, Reason
from integrations.clients.runner import RunnerClient
from integrations.clients.segmentation import SegmentationClient
from integrations.registry import Instance, ServiceKind

STANDARD = "standard"


def client_for(instance: Instance) -> StageClient[Any]:
    """Return a client that speaks as the instance does. Raises NotTakenError if nobody here knows how."""
    dialect = DIALECTS.get((instance.kind, instance.dialect))
    if dialect is None:  # as after the upgrade of another process, or back
        raise NotTakenError(Reason.UNAVAILABLE, "its dialect is not known here")
    return dialect(instance)


def names_of(kind: ServiceKind) -> list[str]:
    return sorted(name for each, name in DIALECTS if each is kind)


def _find_dialects() -> dict[tuple[ServiceKind, str], type[StageClient[Any]]]:
    found: dict[tuple[ServiceKind, str], type[StageClient[Any]]] = {
        (ServiceKind.SEGMENTATION, STANDARD): SegmentationClient,
        (ServiceKind.RUNNER, STANDARD): RunnerClient,
        (ServiceKind.ARCHIVE, STANDARD): ArchiveClient,
    }
    for module in pkgutil.iter_modules(__path__):
        kind, _, name = module.name.partition("_")
        found[ServiceKind(kind), name] = import_module(f"{__name__}.{module.name}").Client
    return found


DIALECTS = _find_dialects()
