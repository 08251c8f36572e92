"""Which permissions a user has: those of the roles, and of the roles that these inherit from."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from django.contrib.auth.models import Group, Permission
from django.db.models import Q, QuerySet

from accounts.models import Role, User


@dataclass(frozen=True)
class RoleTree:
    """All roles as they are now, with their own permissions. Roles are few: they are read at once."""

    roles: dict[int, Role]
    own: dict[int, frozenset[str]]

    @classmethod
    def read(cls) -> "RoleTree":
        own: dict[int, set[str]] = {}
        rows = Group.permissions.through.objects.values_list(
            "group_id", "permission__content_type__app_label", "permission__codename"
        )
        for role_id, app, codename in rows:
            own.setdefault(role_id, set()).add(f"{app}.{codename}")
        return cls(
            roles={role.pk: role for role in Role.objects.all()},
            own={role_id: frozenset(names) for role_id, names in own.items()},
        )

    def with_parents(self, role_ids: Iterable[int]) -> list[Role]:
        """Return these roles and all that they inherit from."""
        return _with_parents(self.roles, role_ids)

    def permissions(self, role_ids: Iterable[int]) -> frozenset[str]:
        """Return what these roles may do together, inherited permissions included."""
        return frozenset().union(*(self.own.get(role.pk, frozenset()) for role in self.with_parents(role_ids)))

    def inherited(self, role: Role) -> frozenset[str]:
        """Return what a role may do only because it inherits."""
        return self.permissions([role.pk]) - self.own.get(role.pk, frozenset())

    def descendants(self, role: Role) -> list[Role]:
        """Return all roles that inherit from this one, directly or not."""
        return [each for each in self._others(role) if role in self.with_parents([each.pk])]

    def _others(self, role: Role) -> Iterator[Role]:
        return (each for each in self.roles.values() if each.pk != role.pk)


def user_roles(user: User) -> list[Role]:
    """Return the user's roles and all that they inherit from."""
    return with_parents(Role.objects.filter(user=user).values_list("pk", flat=True))


def user_permissions(user: User, roles: Iterable[Role]) -> frozenset[str]:
    """Return the permissions of a user with these roles as `app_label.codename`; all there are for a superuser."""
    if user.is_superuser:
        return names_of(Permission.objects.all())
    return names_of(Permission.objects.filter(Q(group__in=[role.pk for role in roles]) | Q(user=user)))


def role_permissions(role: Role) -> frozenset[str]:
    """Return the permissions of a role, inherited ones included."""
    return names_of(Permission.objects.filter(group__in=[each.pk for each in with_parents([role.pk])]))


def permissions_named(names: Iterable[str]) -> list[Permission]:
    """Return the permissions of these names (`app_label.codename`), without those that there are not."""
    wanted = {name for name in names if name.isprintable()}  # PostgreSQL cannot even look for NUL
    found = Permission.objects.select_related("content_type").filter(
        codename__in={name.partition(".")[2] for name in wanted}
    )
    return [permission for permission in found if name_of(permission) in wanted]


def unknown_names(names: Iterable[str]) -> list[str]:
    """Return those of the names that no permission has, in order."""
    wanted = set(names)
    return sorted(wanted - {name_of(permission) for permission in permissions_named(wanted)})


def name_of(permission: Permission) -> str:
    return f"{permission.content_type.app_label}.{permission.codename}"


def names_of(permissions: QuerySet[Permission]) -> frozenset[str]:
    pairs = permissions.order_by().values_list("content_type__app_label", "codename")
    return frozenset(f"{app}.{codename}" for app, codename in pairs)


def with_parents(role_ids: Iterable[int]) -> list[Role]:
    """Return these roles and all that they inherit from."""
    return _with_parents({role.pk: role for role in Role.objects.all()}, role_ids)


def _with_parents(roles: dict[int, Role], role_ids: Iterable[int]) -> list[Role]:
    found: dict[int, Role] = {}
    for role_id in role_ids:
        next_id: int | None = role_id
        while next_id is not None and next_id in roles and next_id not in found:
            found[next_id] = roles[next_id]
            next_id = roles[next_id].parent_id
    return list(found.values())
