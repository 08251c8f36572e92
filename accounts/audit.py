"""The record of security-relevant acts. Whoever does one writes it down here, in the same transaction."""

from collections.abc import Iterable, Mapping
from typing import Any

from django.db.models import Model

from accounts.models import AuditEntry, User
from accounts.models.audit import Action
from gateway.origin import origin
from gateway.request_id import request_id

__all__ = ["Action", "changes_between", "record", "record_each"]


def record(
    action: Action,
    *,
    actor: User | None,
    target: Model | None = None,
    changes: Mapping[str, tuple[Any, Any]] | None = None,
    reason: str = "",
) -> AuditEntry:
    """Write an act down: who (None: nobody that is known), what, on whom, from where, before and after, and why.

    `changes` must not hold secrets.
    """
    entry = _entry(action, actor, target, changes, reason)
    entry.save()
    return entry


def record_each(
    action: Action,
    *,
    actor: User | None,
    targets: Iterable[Model],
    changes: Mapping[str, tuple[Any, Any]] | None = None,
    reason: str = "",
) -> None:
    """Write the same act on each of these down, as `record` does."""
    entries = [_entry(action, actor, target, changes, reason) for target in targets]
    AuditEntry.objects.bulk_create(entries, batch_size=500)


def _entry(
    action: Action, actor: User | None, target: Model | None, changes: Mapping[str, tuple[Any, Any]] | None, reason: str
) -> AuditEntry:
    where = origin()
    return AuditEntry(
        action=action,
        actor_id=actor.pk if actor else None,
        actor_name=actor.username if actor else "",
        credential_id=where.credential_id,
        address=where.address,
        request_id=request_id.get()[:100],
        target_type=type(target).__name__.lower() if target else "",
        target_id=str(target.pk) if target else "",
        target_name=str(target)[:150] if target else "",
        changes={field: list(values) for field, values in (changes or {}).items()},
        reason=reason[:200],
    )


def changes_between(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the fields that differ, with both values."""
    return {field: (before[field], after[field]) for field in after if before.get(field) != after[field]}
