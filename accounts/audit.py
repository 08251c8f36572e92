"""The record of security-relevant acts. Whoever does one writes it down here, in the same transaction."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from django.db.models import Model

from accounts.models import AuditEntry, User
from gateway.origin import origin
from gateway.request_id import request_id


class Action(StrEnum):
    """What can be done. Stable names: administrators filter by them."""

    SIGNED_IN = "signed_in"
    SIGN_IN_FAILED = "sign_in_failed"
    SIGN_INS_BLOCKED = "sign_ins_blocked"
    SESSION_ENDED = "session_ended"
    REFRESH_TOKEN_REUSED = "refresh_token_reused"  # noqa: S105 - a name, not a secret
    USER_REGISTERED = "user_registered"
    NAME_TAKEN = "name_taken"  # somebody asked for a name or address of another user, and so learnt that there is one
    USER_CREATED = "user_created"
    USER_CHANGED = "user_changed"
    USER_DELETED = "user_deleted"
    USER_UNLOCKED = "user_unlocked"
    USER_ROLES_CHANGED = "user_roles_changed"
    EMAIL_VERIFIED = "email_verified"
    PASSWORD_CHANGED = "password_changed"  # noqa: S105 - the same
    PASSWORD_RESET_ASKED = "password_reset_asked"  # noqa: S105 - the same
    SECOND_FACTOR_ADDED = "second_factor_added"
    SECOND_FACTOR_REMOVED = "second_factor_removed"
    RECOVERY_CODES_MADE = "recovery_codes_made"
    RECOVERY_CODE_USED = "recovery_code_used"
    ROLE_CREATED = "role_created"
    ROLE_CHANGED = "role_changed"
    ROLE_DELETED = "role_deleted"
    ROUTE_RULE_CREATED = "route_rule_created"
    ROUTE_RULE_CHANGED = "route_rule_changed"
    ROUTE_RULE_DELETED = "route_rule_deleted"
    API_KEY_CREATED = "api_key_created"
    API_KEY_REVOKED = "api_key_revoked"
    AUDIT_EXPORTED = "audit_exported"


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
    where = origin()
    return AuditEntry.objects.create(
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
