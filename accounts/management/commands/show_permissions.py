"""What every route of the API asks for, as a table for the terminal or as docs/permissions.md."""

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from accounts.built_in_roles import role_has
from accounts.models import Role
from accounts.routes import Route, routes
from gateway.api.permissions import Access

ROLES = (Role.VIEWER, Role.OPERATOR, Role.SERVICE, Role.ADMIN)

PAGE = """\
# Permissions

Made by `manage.py show_permissions --markdown > docs/permissions.md`; a test fails when it is out of date.

## How access is decided
- A user has the permissions of their roles and of the roles that these inherit from. A superuser has all.
- Each method of each route asks for one permission, or for nothing but being signed in. An API key has those of its
  user's permissions that are among its scopes; a route *signed in on a device* is closed to it.
- A *route rule* (admin pages, method and route name as below) makes a route ask for a permission or a role besides.
  Rules do not hold for superusers, so that none can lock everybody out. Public routes take no rules.
- A change of a role, a permission or a rule takes effect on the next request, and on open sockets.

## Who can change whose access
- Nobody gives away what they do not have: not by giving a role, making or changing one, or letting it inherit.
- Nobody changes a user who may do more than they, nor their own roles. Superusers may.
- Nobody deactivates or deletes themselves. Superusers may.
- An API key counts as its scopes, also that of a superuser.
- An administrator stays, whatever happens at once (409 `last_administrator`). That is an active user who is a
  superuser, or has a role that includes all permissions of the built-in role `admin`.
- A role from which others inherit, or for which a route rule asks, is not deleted (409 `role_in_use`). Of the built-in
  roles only `requires_second_factor` can be changed.

## Names
User names and e-mail addresses are unique without regard to letter case. User names and names of roles are brought into
NFKC and hold Latin letters (up to U+017F), digits and `. + - _`; those of roles also single spaces. So full-width
letters are the plain ones, and Cyrillic or Greek ones are refused. Of two names that differ by the dot of an `i`
alone there can be one: with `admin`, nobody is called `admın`.

## Routes
"""


class Command(BaseCommand):
    help = "Show what every route of the API asks for."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--markdown", action="store_true", help="as docs/permissions.md")

    def handle(self, *args: Any, markdown: bool, **options: Any) -> None:
        if markdown:
            self.stdout.write(page(), ending="")
            return
        rows = [(route.method, route.path, route.name, _asked(route)) for route in routes()]
        widths = [max(len(row[column]) for row in rows) for column in range(3)]
        for method, path, name, required in rows:
            self.stdout.write(f"{method:{widths[0]}}  {path:{widths[1]}}  {name:{widths[2]}}  {required}")


def page() -> str:
    """Return docs/permissions.md."""
    head = ["Method", "Path", "Name", "Asks for", *ROLES]
    lines = [head, ["---"] * len(head), *(_row(route) for route in routes())]
    return PAGE + "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _row(route: Route) -> list[str]:
    required = route.required
    marks = ["yes" if isinstance(required, Access) or role_has(role, str(required)) else "" for role in ROLES]
    return [route.method, f"`{route.path}`", route.name, _asked(route), *marks]


def _asked(route: Route) -> str:
    """Return what a route asks for, in words that Access has too."""
    if route.is_for_devices_only and route.required != Access.DEVICE_SESSION:
        return f"{route.required}, {Access.DEVICE_SESSION}"
    return str(route.required)
