"""Rules that tighten one route at run time, and the table of routes that they speak of."""

from io import StringIO

import pytest
from django.conf import settings as project
from django.core.management import call_command
from django.db import IntegrityError, transaction
from drf_spectacular.generators import SchemaGenerator
from rest_framework.exceptions import ValidationError

from accounts.checks import every_route_states_its_permission
from accounts.models import AuditEntry, Role, RouteRule, User
from accounts.routes import Route, routes
from accounts.services.roles import route_rule_delete, route_rule_save
from accounts.tests.people import client_with_key, person, person_with, role_with
from gateway.api.errors import ApiError, ErrorCode
from gateway.api.permissions import Access
from gateway.api.views import ApiView

pytestmark = [pytest.mark.django_db, pytest.mark.security, pytest.mark.security_access]

COMMANDS, PERMISSIONS = "/api/v2/commands", "/api/v2/me/permissions"
READ, SUBMIT = "commands.read_own_command", "commands.submit_command"


def save(**change):
    given = {"method": "GET", "route": "commands", "permission": SUBMIT, "role": None, "reason": "holidays"}
    return route_rule_save(**{"actor": None, **given, **change})


def denied(answer, permission):
    assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied"), answer.content
    assert answer.json()["permission"] == permission


@pytest.mark.django_db(transaction=True)
def test_a_rule_is_felt_on_the_next_request_by_those_who_do_not_meet_it(api, alice, admin):
    viewer = api(person_with("viewer", Role.VIEWER))
    operator = api(alice)
    assert viewer.get(COMMANDS).status_code == operator.get(COMMANDS).status_code == 200
    rule = save()
    denied(viewer.get(COMMANDS), SUBMIT)
    assert viewer.get(PERMISSIONS).json()["denied_routes"] == {"GET commands": SUBMIT}
    assert operator.get(COMMANDS).status_code == 200
    gate = role_with("gate")
    rule = save(permission="", role=gate, rule=rule)
    denied(operator.get(COMMANDS), "gate")
    assert api(admin).get(COMMANDS).status_code == 200
    alice.groups.add(role_with("child", parent=gate))
    assert operator.get(COMMANDS).status_code == 200
    route_rule_delete(actor=None, rule=rule)
    assert viewer.get(COMMANDS).status_code == 200


@pytest.mark.django_db(transaction=True)
def test_a_rule_concerns_one_method_and_head_with_get(api, alice):
    save(permission="accounts.view_user")
    client = api(alice)
    assert client.head(COMMANDS).status_code == 403
    assert client.post(COMMANDS, {"text": "echo"}).status_code == 201


def test_a_rule_adds_to_what_the_code_asks_for_and_replaces_nothing(api):
    save(permission=SUBMIT)
    denied(api(person("submitter", SUBMIT)).get(COMMANDS), READ)


def test_an_api_key_meets_a_rule_by_its_scopes(api, alice):
    save(permission=SUBMIT)
    denied(client_with_key(alice, READ).get(COMMANDS), SUBMIT)
    assert client_with_key(alice, READ, SUBMIT).get(COMMANDS).status_code == 200


def test_no_rule_locks_a_superuser_out(api, admin):
    gate = role_with("nobody-has-it")
    for route in routes():
        if route.required != Access.PUBLIC:
            save(method=route.method, route=route.name, permission="", role=gate)
    client = api(admin)
    for path in ("/api/v2/me", PERMISSIONS, "/api/v2/users", f"/api/v2/users/{admin.id}", "/api/v2/roles", COMMANDS):
        assert client.get(path).status_code == 200
    assert client.put(f"/api/v2/users/{admin.id}/roles", {"roles": []}).status_code == 200


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        ({"route": "nowhere"}, {"route": "does_not_exist"}),
        ({"method": "PUT"}, {"route": "does_not_exist"}),
        ({"method": "get"}, {"route": "does_not_exist"}),
        ({"method": "HEAD"}, {"route": "does_not_exist"}),
        ({"route": "\0"}, {"route": "does_not_exist"}),
        ({"method": "POST", "route": "auth-login"}, {"route": "public"}),
        ({"permission": "commands.fly"}, {"permission": "does_not_exist"}),
        ({"permission": "\0.\0"}, {"permission": "does_not_exist"}),
        ({"permission": ""}, {"permission": "invalid"}),
        ({"reason": " "}, {"reason": "blank"}),
    ],
    ids=lambda given: ascii(given)[:40],
)
def test_a_rule_that_means_nothing_is_refused(db, change, fields):
    with pytest.raises(ValidationError) as caught:
        save(**change)
    assert {field: errors[0]["code"] for field, errors in caught.value.get_full_details().items()} == fields
    assert not RouteRule.objects.exists()


def test_a_rule_asks_for_one_thing_and_there_is_one_per_route(db):
    with pytest.raises(ValidationError):
        save(role=role_with("gate"))
    rule = save()
    assert save(rule=rule, reason="longer").pk == rule.pk
    with pytest.raises(ValidationError) as caught:
        save()
    assert caught.value.get_codes() == {"route": ["unique"]}
    with pytest.raises(IntegrityError), transaction.atomic():
        RouteRule.objects.create(method="GET", route="commands", permission=READ, reason="again")


def test_nobody_lifts_a_rule_that_keeps_them_out(admin):
    rule = save(permission="", role=role_with("gate"))
    manager = person_with("manager", Role.ADMIN)
    for loosen in (
        lambda: route_rule_delete(actor=manager, rule=rule),
        lambda: save(actor=manager, rule=rule, permission=READ),
    ):
        with pytest.raises(ApiError) as caught:
            loosen()
        assert (caught.value.error_code, caught.value.permission) == (ErrorCode.PERMISSION_DENIED, "gate")
    manager.groups.add(Role.objects.get(name="gate"))
    save(actor=manager, rule=rule, permission=READ)
    route_rule_delete(actor=admin, rule=rule)
    assert not RouteRule.objects.exists()


def test_rules_are_written_down(admin):
    rule = save(actor=admin)
    save(actor=admin, rule=rule, permission=READ, reason="less")
    route_rule_delete(actor=admin, rule=rule, reason="over")
    entries = AuditEntry.objects.order_by("id")
    assert [(entry.action, entry.actor_name, entry.target_name, entry.reason) for entry in entries] == [
        ("route_rule_created", "admin", "GET commands", "holidays"),
        ("route_rule_changed", "admin", "GET commands", "less"),
        ("route_rule_deleted", "admin", "GET commands", "over"),
    ]
    assert entries[1].changes == {"permission": [SUBMIT, READ]}


# --- The table ---


class Misspelt(ApiView):
    required_permissions = {"GET": "accounts.view_usr"}  # noqa: RUF012 - as views have it

    def get(self, request):
        raise AssertionError


def test_the_system_check_refuses_a_route_without_a_permission(settings):
    assert every_route_states_its_permission() == []
    settings.ROOT_URLCONF = "gateway.tests.views"  # has a view that forgot it
    [error] = every_route_states_its_permission()
    assert (error.id, "GET" in error.msg, "/forgot" in error.msg) == ("accounts.E001", True, True)


def test_the_system_check_refuses_a_permission_that_there_is_not(monkeypatch):
    wrong = Route("GET", "misspelt", "/misspelt", Misspelt)
    monkeypatch.setattr("accounts.checks.routes", lambda: [wrong])
    assert [error.id for error in every_route_states_its_permission()] == ["accounts.E002"]


def test_a_route_is_known_by_its_name(db):
    names = {(route.method, route.name) for route in routes()}
    assert len(names) == len(routes())
    assert ("GET", "users") in names
    assert all(name != "None" for _method, name in names)


def test_the_command_shows_every_route_with_what_it_asks_for():
    out = StringIO()
    call_command("show_permissions", stdout=out)
    lines = [line.split(maxsplit=3) for line in out.getvalue().splitlines()]
    assert ["GET", "/api/v2/users/{user_id}", "user", "accounts.view_user"] in lines
    assert ["POST", "/api/v2/auth/login", "auth-login", "public"] in lines
    assert len(lines) == len(routes())


def test_the_page_of_permissions_is_up_to_date():
    out = StringIO()
    call_command("show_permissions", "--markdown", stdout=out)
    page = (project.BASE_DIR / "docs" / "permissions.md").read_text()
    assert page == out.getvalue(), "manage.py show_permissions --markdown > docs/permissions.md"


def test_the_page_says_what_the_built_in_roles_have(db):
    from accounts.built_in_roles import role_has  # noqa: PLC0415
    from accounts.permissions import names_of, role_permissions  # noqa: PLC0415

    everything = role_permissions(Role.objects.get(name=Role.ADMIN))
    for role in Role.objects.all():
        assert {name for name in everything if role_has(role.name, name)} == role_permissions(role)
    assert everything == names_of(User.user_permissions.rel.model.objects.all())


def ending(route):
    """Return how the description of an operation ends."""
    if route.required == Access.PUBLIC:
        return "Open to everybody."
    needed = f"Needs the permission `{route.required}`."
    words = "For everybody who is signed in." if isinstance(route.required, Access) else needed
    return f"{words} Not for API keys." if route.is_for_devices_only else words


def test_the_schema_says_what_each_operation_needs():
    paths = SchemaGenerator().get_schema(request=None, public=True)["paths"]
    for route in routes():
        operation = paths.get(route.path, {}).get(route.method.lower())
        if operation is None:  # left out on purpose: for the runner, and for Prometheus
            assert route.name in ("runner-callback", "metrics")
            continue
        assert operation["description"].endswith(ending(route)), operation["description"]
        assert ("security" in operation) == (route.required != Access.PUBLIC)
