"""News of instances for the rooms above: sent after the commit, at most once. What they speak of is in the registry."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import transaction
from django.dispatch import Signal
from django.utils import timezone

from integrations.models import ServiceInstance, ServiceKind, ServiceState

service_changed = Signal()
"""Sent with `event`: a ServiceChanged."""


@dataclass(frozen=True)
class ServiceChanged:
    """An instance is in another state than it was last told to be in."""

    service_id: UUID
    kind: ServiceKind
    base_url: str
    state: ServiceState
    reason: str  # for those who may see instances; empty unless it is unhealthy
    at: datetime  # news of two processes may overtake each other


def tell_if_changed(row: ServiceInstance) -> None:
    """Tell of the state that a row is in now, unless that was told already.

    Within the transaction that changes the row, which the caller has locked.
    """
    state = row.state
    if state == row.told_state:
        return
    row.told_state = state
    row.save(update_fields=["told_state"])
    event = ServiceChanged(row.id, ServiceKind(row.kind), row.base_url, state, row.reason, timezone.now())
    # Robust, both: what goes wrong after the commit must not look like a failure of what was committed.
    transaction.on_commit(lambda: _send(event), robust=True)


def _send(event: ServiceChanged) -> None:
    service_changed.send_robust(sender=ServiceInstance, event=event)
