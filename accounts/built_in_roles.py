"""The four roles that every gateway has.

What they may do is said by the rooms themselves: `built_in_role_permissions` of an AppConfig names codenames per role.
"""

from typing import Any

from django.apps import apps
from django.contrib.auth.management import create_permissions
from django.contrib.auth.models import Permission
from django.utils.translation import gettext_noop

from accounts.models import Role

# In this order: a parent comes before its children. The descriptions are translated where they are shown.
_ROLES = {
    Role.VIEWER: (None, gettext_noop("Reads its own commands and files.")),
    Role.OPERATOR: (Role.VIEWER, gettext_noop("Submits and steers its own commands.")),
    Role.SERVICE: (None, gettext_noop("A backend service.")),
    Role.ADMIN: (Role.OPERATOR, gettext_noop("May do everything.")),
}


def ensure_built_in_roles(*, using: str, verbosity: int = 0, **_kwargs: Any) -> None:
    """Make the built-in roles and give them the permissions that the code says. Runs after every `migrate`."""
    for app in apps.get_app_configs():
        create_permissions(app, verbosity=verbosity, using=using)  # Django comes to the later apps after this one
    permissions = {
        (permission.content_type.app_label, permission.codename): permission
        for permission in Permission.objects.using(using).select_related("content_type")
    }
    for name, (parent, description) in _ROLES.items():
        role, _created = Role.objects.using(using).update_or_create(
            name=name,
            defaults={
                "built_in": True,
                "description": description,
                "parent": Role.objects.using(using).get(name=parent) if parent else None,
            },
        )
        if name == Role.ADMIN:
            role.permissions.set(permissions.values())
        else:
            role.permissions.set(permissions[key] for key in _keys_of(name))


def _keys_of(role: str) -> list[tuple[str, str]]:
    return [
        (app.label, codename)
        for app in apps.get_app_configs()
        for codename in getattr(app, "built_in_role_permissions", {}).get(role, ())
    ]


def role_has(role: str, permission: str) -> bool:
    """Return whether a built-in role has a permission (`app_label.codename`), by the code: without the database."""
    parent, _description = _ROLES[role]
    app, _dot, codename = permission.partition(".")
    own = role == Role.ADMIN or (app, codename) in _keys_of(role)
    return own or (parent is not None and role_has(parent, permission))
