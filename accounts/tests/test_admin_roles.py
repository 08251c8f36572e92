"""Roles and route rules in the admin."""

import pytest
from django.contrib.messages import get_messages
from django.test import Client

from accounts.audit import Action
from accounts.models import AuditEntry, Role, RouteRule
from accounts.permissions import permissions_named, role_permissions
from accounts.tests.people import role_with, signed_in, staff

pytestmark = [pytest.mark.django_db, pytest.mark.security, pytest.mark.security_access]

ROLES, RULES = "/admin/accounts/role/", "/admin/accounts/routerule/"
WHY = "as the ticket says"
VIEW_ROLE = "accounts.view_role"


@pytest.fixture
def client(admin):
    return signed_in(admin)


def ids(*permissions):
    return [permission.pk for permission in permissions_named(permissions)]


def said(answer):
    return " ".join(str(message) for message in get_messages(answer.wsgi_request))


def errors(answer):
    assert answer.status_code == 200
    return str(answer.context["adminform"].form.errors)


def page_of(row):
    return f"{ROLES if isinstance(row, Role) else RULES}{row.pk}/change/"


# --- roles ----------------------------------------------------------------------------------------------------------


def test_a_role_is_made_and_says_what_it_may_do(client, admin):
    viewer = Role.objects.get(name=Role.VIEWER)
    given = {"name": "auditor", "description": "Reads.", "parent": viewer.pk, "permissions": ids(VIEW_ROLE)}
    assert client.post(f"{ROLES}add/", given).status_code == 302
    role = Role.objects.get(name="auditor")
    assert role_permissions(role) == role_permissions(viewer) | {VIEW_ROLE}
    assert AuditEntry.objects.get(action=Action.ROLE_CREATED).actor_id == admin.pk
    page = client.get(page_of(role)).content.decode()
    assert f"<li>{VIEW_ROLE}</li>" in page
    assert f"<li>{min(role_permissions(viewer))}</li>" in page


@pytest.mark.parametrize(
    "change",
    [{"name": ""}, {"name": "ADMIN"}, {"name": "<b>"}, {"permissions": ["x"]}, {"parent": "0"}, {"name": "a\0"}],
    ids=str,
)
def test_a_role_that_cannot_be_is_refused_with_a_word_about_why(client, change):
    assert errors(client.post(f"{ROLES}add/", {"name": "auditor", **change}))
    assert Role.objects.count() == 4


def test_a_role_is_changed_with_a_reason(client):
    role = role_with("auditor", VIEW_ROLE)
    given = {"name": "reader", "description": "Reads.", "permissions": ids("accounts.view_user"), "reason": WHY}
    assert client.post(page_of(role), given).status_code == 302
    role.refresh_from_db()
    assert role.name == "reader"
    assert role_permissions(role) == {"accounts.view_user"}
    entry = AuditEntry.objects.get(action=Action.ROLE_CHANGED)
    assert (entry.reason, entry.changes["permissions"]) == (WHY, [[VIEW_ROLE], ["accounts.view_user"]])


def test_a_role_cannot_inherit_from_itself(client):
    above = role_with("above")
    below = role_with("below", parent=above)
    for parent in (above, below):
        answer = client.post(page_of(above), {"name": "above", "parent": parent.pk})
        assert "A role cannot inherit from itself" in errors(answer)


def test_of_a_built_in_role_only_the_second_factor_can_be_chosen(client):
    role = Role.objects.get(name=Role.SERVICE)  # which the administrator does not inherit from
    before = role_permissions(role)
    given = {"name": "x", "description": "x", "parent": "", "permissions": [], "requires_second_factor": "on"}
    assert client.post(page_of(role), {**given, "reason": WHY}).status_code == 302
    role.refresh_from_db()
    assert (role.name, role.requires_second_factor) == (Role.SERVICE, True)
    assert role_permissions(role) == before
    assert AuditEntry.objects.get(action=Action.ROLE_CHANGED).changes == {"requires_second_factor": [False, True]}
    assert client.get(f"{ROLES}{role.pk}/delete/").status_code == 403


def test_a_role_is_deleted_with_a_reason_unless_it_is_needed(client):
    above = role_with("above")
    below = role_with("below", parent=above)
    sure = {"confirmed": "yes", "reason": WHY}
    assert "Other roles inherit from this role." in said(client.post(f"{ROLES}{above.pk}/delete/", sure))
    client.post(f"{ROLES}{below.pk}/delete/", {"confirmed": "yes"})
    assert Role.objects.filter(pk=below.pk).exists()
    client.post(f"{ROLES}{below.pk}/delete/", sure)
    assert not Role.objects.filter(pk=below.pk).exists()
    assert AuditEntry.objects.get(action=Action.ROLE_DELETED).reason == WHY


def test_nobody_gives_to_a_role_what_they_do_not_have(admin):
    role = role_with("auditor")
    clerk = staff("accounts.view_role", "accounts.change_role", "accounts.add_role", "accounts.delete_role")
    sentence = "You can give and take only what you have yourself."
    given = {"name": "auditor", "permissions": ids("accounts.delete_user")}
    assert sentence in errors(clerk.post(page_of(role), given))
    assert sentence in errors(clerk.post(f"{ROLES}add/", {**given, "name": "other"}))
    assert role_permissions(role) == set()
    strong = role_with("strong", "accounts.delete_user")
    assert sentence in said(clerk.post(f"{ROLES}{strong.pk}/delete/", {"confirmed": "yes", "reason": WHY}))


def test_roles_and_rules_need_their_permissions(alice):
    role = role_with("auditor")
    rule = RouteRule.objects.create(method="GET", route="users", permission=VIEW_ROLE, reason=WHY)
    clerk = staff("accounts.view_role", "accounts.view_routerule")
    for path, row in ((ROLES, role), (RULES, rule)):
        assert clerk.get(path).status_code == clerk.get(page_of(row)).status_code == 200
        for page in (f"{path}add/", page_of(row), f"{path}{row.pk}/delete/"):
            sure = {"name": "x", "confirmed": "yes", "reason": WHY}
            assert clerk.post(page, sure).status_code == 403
            for stranger in (Client(), signed_in(alice)):
                assert stranger.post(page, sure)["Location"].startswith("/admin/login/")
            assert staff(name=f"nobody{abs(hash(page))}").post(page, sure).status_code == 403
    role.refresh_from_db()
    assert role.name == "auditor"
    assert RouteRule.objects.get().reason == WHY


# --- route rules ----------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_a_rule_closes_a_route_at_once_and_opens_it_when_it_is_deleted(client, alice, api):
    there = api(alice)
    assert there.get("/api/v2/commands").status_code == 200
    given = {"what": "GET commands", "permission": "accounts.delete_user", "reason": WHY}
    assert client.post(f"{RULES}add/", given).status_code == 302
    assert there.get("/api/v2/commands").status_code == 403
    rule = RouteRule.objects.get()
    assert AuditEntry.objects.get(action=Action.ROUTE_RULE_CREATED).reason == WHY
    operator = Role.objects.get(name=Role.OPERATOR)
    client.post(page_of(rule), {"what": "GET commands", "permission": "", "role": operator.pk, "reason": WHY})
    rule.refresh_from_db()
    assert (rule.permission, rule.role_id) == ("", operator.pk)
    assert there.get("/api/v2/commands").status_code == 200
    client.post(f"{RULES}{rule.pk}/delete/", {"confirmed": "yes", "reason": WHY})
    assert not RouteRule.objects.exists()
    assert AuditEntry.objects.get(action=Action.ROUTE_RULE_DELETED).reason == WHY


@pytest.mark.parametrize(
    "change",
    [
        {"what": ""},
        {"what": "GET nothing"},
        {"what": "x"},
        {"what": "POST auth-login"},
        {"permission": ""},
        {"permission": "x.y"},
        {"role": "viewer"},
        {"reason": " "},
        {"what": "GET users"},
    ],
    ids=str,
)
def test_a_rule_that_cannot_be_is_refused_with_a_word_about_why(client, change):
    RouteRule.objects.create(method="GET", route="users", permission=VIEW_ROLE, reason=WHY)
    given = {"what": "GET commands", "permission": VIEW_ROLE, "reason": WHY, **change}
    if "role" in change:
        given["role"] = Role.objects.get(name=change["role"]).pk
    assert errors(client.post(f"{RULES}add/", given))
    assert RouteRule.objects.count() == 1


def test_nobody_loosens_a_rule_that_keeps_them_out(admin):
    rule = RouteRule.objects.create(method="GET", route="users", permission="accounts.delete_user", reason=WHY)
    clerk = staff("accounts.view_routerule", "accounts.change_routerule", "accounts.delete_routerule")
    sentence = "You can loosen only a rule that lets you through."
    given = {"what": "GET users", "permission": "accounts.view_routerule", "reason": WHY}
    assert sentence in errors(clerk.post(page_of(rule), given))
    assert sentence in said(clerk.post(f"{RULES}{rule.pk}/delete/", {"confirmed": "yes", "reason": WHY}))
    rule.refresh_from_db()
    assert rule.permission == "accounts.delete_user"
