"""Who may change whose access: nobody gives away what they do not have, and an administrator always stays.

An **administrator** is an active user who is a superuser, or has a role that includes all permissions of the built-in
role `admin`, inherited ones counted.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from django.db import transaction
from django.utils.translation import gettext as _

from accounts import sign_in_cache
from accounts.models import ApiKey, Role, RouteRule, User
from accounts.permissions import RoleTree, user_permissions, user_roles
from gateway.api.errors import ApiError, ErrorCode
from gateway.origin import origin


@dataclass(frozen=True)
class Powers:
    """What an actor may do, read from the database when it counts.

    `is_unlimited` is for superusers, and for the gateway itself when nobody in particular acts.
    """

    permissions: frozenset[str]
    roles: frozenset[int]
    is_unlimited: bool

    def require(self, permission: str) -> None:
        """Raise ApiError (permission_denied) without this permission."""
        if not self.is_unlimited and permission not in self.permissions:
            raise ApiError(ErrorCode.PERMISSION_DENIED, permission=permission)

    def require_roles(self, roles: Iterable[Role]) -> None:
        """Raise ApiError (permission_denied) unless the actor has all that these roles give."""
        if self.is_unlimited:
            return
        tree, role_ids = RoleTree.read(), [role.pk for role in roles]
        sentence = _("You can give and take only what you have yourself.")
        self._require_all(tree.permissions(role_ids), tree.with_parents(role_ids), sentence)

    def require_over(self, user: User) -> None:
        """Raise ApiError (permission_denied) if a user may do something that the actor may not."""
        if self.is_unlimited:
            return
        sentence = _("You can change only users who may do no more than you.")
        if user.is_superuser:
            raise ApiError(ErrorCode.PERMISSION_DENIED, sentence)
        roles = user_roles(user)
        self._require_all(user_permissions(user, roles), roles, sentence)

    def require_rule(self, rule: RouteRule) -> None:
        """Raise ApiError (permission_denied) if the rule closes its route to the actor."""
        met = rule.permission in self.permissions if rule.permission else rule.role_id in self.roles
        if not self.is_unlimited and not met:
            sentence = _("You can loosen only a rule that lets you through.")
            raise ApiError(ErrorCode.PERMISSION_DENIED, sentence, permission=rule.permission or str(rule.role))

    def _require_all(self, permissions: frozenset[str], roles: Iterable[Role], sentence: str) -> None:
        lacking = sorted(permissions - self.permissions)
        if not lacking:  # a role can open a route without giving a permission: by a rule that asks for it
            asked_for = set(RouteRule.objects.exclude(role=None).values_list("role_id", flat=True))
            lacking = sorted(role.name for role in roles if role.pk in asked_for - self.roles)
        if lacking:
            raise ApiError(ErrorCode.PERMISSION_DENIED, sentence, permission=lacking[0])


def powers_of(actor: User | None) -> Powers:
    """Return what an actor may do at this moment. An API key has no more than its scopes, whoever made it."""
    if actor is None:
        return Powers(frozenset(), frozenset(), is_unlimited=True)
    user = User.objects.filter(pk=actor.pk, is_active=True).first()
    if user is None:
        return Powers(frozenset(), frozenset(), is_unlimited=False)
    roles = user_roles(user)
    permissions = user_permissions(user, roles)
    credential_id = origin().credential_id
    key = ApiKey.objects.filter(id=credential_id, user=user).first() if credential_id else None
    return Powers(
        permissions=permissions & set(key.scopes) if key else permissions,
        roles=frozenset(role.pk for role in roles),
        is_unlimited=user.is_superuser and key is None,
    )


@contextmanager
def changing_access() -> Iterator[None]:
    """Do in one transaction what changes the access of users: one at a time, and so that an administrator stays.

    Whatever the decision depends on must be read within. Raises ApiError: last_administrator.
    """
    try:
        with transaction.atomic():
            yield from _with_an_administrator()
    except BaseException:
        sign_in_cache.let_go_everybody()  # of the hold for what is undone now; nobody else can have put one
        raise


def _with_an_administrator() -> Iterator[None]:
    # The row stands for the whole: two administrators who demote each other come one after the other.
    Role.objects.select_for_update(of=("self",), no_key=True).get(name=Role.ADMIN)
    there_was_one = there_is_an_administrator()
    yield
    if there_was_one and not there_is_an_administrator():
        raise ApiError(ErrorCode.LAST_ADMINISTRATOR)


def there_is_an_administrator() -> bool:
    """Two questions, each with an index: in one, PostgreSQL reads the whole table of users."""
    if User.objects.filter(is_superuser=True, is_active=True).exists():
        return True
    roles = _administrator_roles()
    return bool(User.groups.through.objects.filter(group_id__in=roles, user__is_active=True).exists())


def administrators() -> list[User]:
    """Return all administrators, in the order in which they were made. The same two questions."""
    found = set(User.objects.filter(is_superuser=True, is_active=True))
    found |= set(User.objects.filter(groups__in=_administrator_roles(), is_active=True))
    return sorted(found, key=lambda user: user.pk)


def _administrator_roles() -> list[int]:
    tree = RoleTree.read()
    needed = tree.permissions(role.pk for role in tree.roles.values() if role.name == Role.ADMIN)
    return [role_id for role_id in tree.roles if tree.permissions([role_id]) >= needed]
