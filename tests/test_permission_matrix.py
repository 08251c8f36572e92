"""Every route with every role, from the URL table: a door opens exactly for those whom its view names."""

import re

import pytest
from django.urls import URLPattern, get_resolver

from accounts.models import Role
from accounts.permissions import role_permissions
from accounts.routes import Route, routes
from accounts.tests.people import client_with_key, person_with
from gateway.api.errors import ErrorCode
from gateway.api.permissions import Access
from gateway.ids import new_id
from gateway.tests.expect import problem_of
from tests.test_api_surface import OPEN_TO_STRANGERS

pytestmark = [pytest.mark.django_db, pytest.mark.security, pytest.mark.security_access]

# What the door itself answers; a view behind it may refuse for other reasons.
AT_THE_DOOR = {ErrorCode.NOT_AUTHENTICATED, ErrorCode.PERMISSION_DENIED, ErrorCode.DEVICE_SESSION_REQUIRED}
ROLES = (Role.VIEWER, Role.OPERATOR, Role.SERVICE, Role.ADMIN)


def all_routes() -> list[Route]:
    """Return the routes; the one that ends the session of whoever tries it comes last."""
    return sorted(routes(), key=lambda route: route.name == "auth-logout")


def ask(client, route):
    """Return the status, and the code and permission of a problem. With ids of nothing and an empty body."""
    path = re.sub(r"\{(\w+)\}", lambda match: "x" if match[1] == "token" else str(new_id()), route.path)
    answer = getattr(client, route.method.lower())(path, **({} if route.method == "GET" else {"data": {}}))
    body = answer.json() if answer.headers.get("Content-Type") == "application/problem+json" else {}
    return answer, body.get("code"), body.get("permission")


def expected(route: Route, permissions: frozenset[str]) -> tuple[ErrorCode, str] | None:
    if isinstance(route.required, Access) or route.required in permissions:
        return None
    return (ErrorCode.PERMISSION_DENIED, str(route.required))


def test_every_route_names_what_it_asks_for():
    assert len(routes()) > 30
    assert [route for route in routes() if route.required is None] == []


def test_every_path_is_in_the_table_or_open_to_strangers_on_purpose():
    def names(resolver):
        for entry in resolver.url_patterns:
            if isinstance(entry, URLPattern):
                yield str(entry.name)
            elif not str(entry.pattern).startswith("admin/"):
                yield from names(entry)

    in_table = {route.name for route in routes()}
    assert set(names(get_resolver())) - in_table <= OPEN_TO_STRANGERS
    assert {route.name for route in routes() if route.required == Access.PUBLIC} <= OPEN_TO_STRANGERS


def test_a_stranger_is_asked_to_sign_in_wherever_it_is_not_public(api):
    client = api(None)
    for route in all_routes():
        answer, code, _permission = ask(client, route)
        if route.required == Access.PUBLIC:
            assert code not in AT_THE_DOOR, route
        else:
            problem_of(answer, ErrorCode.NOT_AUTHENTICATED)


@pytest.mark.parametrize("role", [None, *ROLES])
def test_each_role_gets_in_exactly_where_it_has_the_permission(api, role):
    has = role_permissions(Role.objects.get(name=role)) if role else frozenset()
    client = api(person_with("somebody", *([role] if role else [])))
    wrong = {}
    for route in all_routes():
        answer, code, permission = ask(client, route)
        got = (code, permission) if code in AT_THE_DOOR else None
        if got != expected(route, has) or answer.status_code >= 500:
            wrong[f"{route.method} {route.name}"] = (answer.status_code, code, permission)
    assert wrong == {}


def test_the_admin_gets_in_everywhere_and_who_has_no_role_only_where_no_permission_is_asked_for():
    admin = role_permissions(Role.objects.get(name=Role.ADMIN))
    assert all(expected(route, admin) is None for route in routes())
    assert {route.name for route in routes() if expected(route, frozenset())} >= {"users", "roles", "commands"}


def test_an_api_key_gets_in_by_its_scopes_and_nowhere_where_a_device_is_asked_for(api):
    has = role_permissions(Role.objects.get(name=Role.OPERATOR))
    client = client_with_key(person_with("machine", Role.OPERATOR), *has)
    wrong = {}
    for route in all_routes():
        answer, code, permission = ask(client, route)
        got = (code, permission) if code in AT_THE_DOOR else None
        need = (ErrorCode.DEVICE_SESSION_REQUIRED, None) if route.is_for_devices_only else None
        if got != (need or expected(route, has)) or answer.status_code >= 500:
            wrong[f"{route.method} {route.name}"] = (answer.status_code, code, permission)
    assert wrong == {}
