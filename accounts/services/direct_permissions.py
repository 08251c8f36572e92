"""Permissions that a user has without a role: Django's way, for superusers to give. Roles are ours."""

from collections.abc import Iterable

from django.contrib.auth.models import Permission
from django.utils.translation import gettext as _

from accounts import audit
from accounts.audit import Action
from accounts.models import User
from accounts.permissions import names_of
from accounts.powers import changing_access, powers_of
from gateway.api.errors import ApiError, ErrorCode


def user_permissions_set(
    *, actor: User | None, user: User, permissions: Iterable[Permission], reason: str = ""
) -> None:
    """Give the user these permissions besides those of the roles. Raises ApiError: permission_denied."""
    with changing_access():
        if not powers_of(actor).is_unlimited:
            raise ApiError(ErrorCode.PERMISSION_DENIED, _("Only a superuser can do this."))
        before = sorted(names_of(user.user_permissions.all()))
        user.user_permissions.set(permissions)
        after = sorted(names_of(user.user_permissions.all()))
        if before != after:
            changes = {"user_permissions": (before, after)}
            audit.record(Action.USER_CHANGED, actor=actor, target=user, changes=changes, reason=reason)
