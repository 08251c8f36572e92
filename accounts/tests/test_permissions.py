"""Nobody gives away what they do not have, lifts themselves, or removes the last administrator."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from django.db import connection

from accounts.models import AuditEntry, Role, RouteRule, User
from accounts.permissions import names_of, permissions_named
from accounts.powers import there_is_an_administrator
from accounts.services.users import user_change, user_delete, user_roles_set
from accounts.tests.people import client_with_key, person, person_with, role_with
from gateway.api.errors import ApiError, ErrorCode
from gateway.tests.expect import fields_of, problem_of

pytestmark = [pytest.mark.django_db, pytest.mark.security, pytest.mark.security_access]

USERS, MINE, CHECK = "/api/v2/users", "/api/v2/me/permissions", "/api/v2/me/permissions/check"
READ, SUBMIT = "commands.read_own_command", "commands.submit_command"
MANAGE = (
    *("accounts.view_user", "accounts.add_user", "accounts.change_user", "accounts.delete_user"),
    *("accounts.assign_role", "accounts.end_session", "accounts.unlock_user", "accounts.view_devicesession"),
)
ACTS = {
    "change": ("patch", "", {"email": "stolen@example.com"}),
    "deactivate": ("patch", "", {"is_active": False}),
    "force a password": ("patch", "", {"must_change_password": True}),
    "delete": ("delete", "", None),
    "take roles": ("put", "/roles", {"roles": []}),
    "end sessions": ("delete", "/sessions", None),
}


def path_of(user, tail=""):
    return f"{USERS}/{user.id}{tail}"


def do(client, act, user):
    method, tail, body = ACTS[act]
    return getattr(client, method)(path_of(user, tail), body)


def give(client, user, *roles):
    return client.put(path_of(user, "/roles"), {"roles": [str(role.public_id) for role in roles]})


def denied(answer, permission=None):
    assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied"), answer.content
    assert answer.json().get("permission") == permission


def state_of(user):
    user = User.objects.get(pk=user.pk)
    sessions = list(user.device_sessions.values_list("ended_at", flat=True))
    return (
        user.email,
        user.is_active,
        user.must_change_password,
        {group.name for group in user.groups.all()},
        sessions,
    )


def role_named(name):
    return Role.objects.get(name=name)


@pytest.mark.parametrize("act", ACTS)
def test_a_manager_manages_who_may_do_no_more(api, act):
    weaker = person("weaker", READ, "accounts.view_user")
    assert do(api(person("manager", *MANAGE, READ)), act, weaker).status_code in (200, 204)


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("how", ["own role", "inherited", "direct", "inactive"])
def test_nobody_touches_a_user_who_may_do_more(api, act, how):
    user = person_with("stronger")
    if how == "direct":
        user.user_permissions.set(permissions_named([READ]))
    else:
        role = role_with("reader", READ)
        user.groups.set([role_with("child", parent=role) if how == "inherited" else role])
        User.objects.filter(id=user.id).update(is_active=how != "inactive")
    before = state_of(user)
    denied(do(api(person("manager", *MANAGE)), act, user), READ)
    assert state_of(user) == before


@pytest.mark.parametrize("act", ACTS)
def test_only_a_superuser_touches_a_superuser(api, admin, act):
    denied(do(api(person_with("manager", Role.ADMIN)), act, admin))
    boss = User.objects.create_superuser("boss", "boss@example.com", "x")
    assert do(api(admin), act, boss).status_code in (200, 204)


@pytest.mark.parametrize("how", ["own", "inherited"])
def test_nobody_gives_a_role_that_may_do_more_than_they(api, alice, how):
    role = role_with("submitter", SUBMIT)
    role = role_with("child", READ, parent=role) if how == "inherited" else role
    alice.groups.clear()
    denied(give(api(person("manager", *MANAGE, READ)), alice, role), SUBMIT)
    assert not alice.groups.exists()
    assert give(api(person("other", *MANAGE, READ, SUBMIT)), alice, role).status_code == 200


def test_a_role_that_opens_a_route_is_given_only_by_who_has_it(api, alice):
    gate = role_with("gate")
    RouteRule.objects.create(method="GET", route="commands", role=gate, reason="closed")
    alice.groups.clear()
    denied(give(api(person("manager", *MANAGE)), alice, gate), "gate")
    denied(give(api(person("another", *MANAGE)), alice, role_with("child", parent=gate)), "gate")
    keeper = person_with("keeper", role_with("keepers", *MANAGE), gate)
    assert give(api(keeper), alice, gate).status_code == 200


@pytest.mark.parametrize("roles", [None, [Role.OPERATOR], [Role.ADMIN]])
def test_nobody_makes_a_user_who_may_do_more_than_they(api, roles):
    body = {"username": "carol", "email": "carol@example.com", "password": "a long new password"}
    if roles:
        body["roles"] = [str(role_named(name).public_id) for name in roles]
    answer = api(person("manager", *MANAGE)).post(USERS, body)
    assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied")
    assert answer.json()["permission"]
    assert not User.objects.filter(username="carol").exists()


def test_nobody_changes_their_own_roles(api):
    manager = person_with("manager", Role.ADMIN)
    person_with("other", Role.ADMIN)
    for roles in ([], [role_named(Role.ADMIN), role_named(Role.SERVICE)]):
        denied(give(api(manager), manager, *roles))
    assert [group.name for group in manager.groups.all()] == ["admin"]


@pytest.mark.parametrize("act", ["deactivate", "delete"])
def test_nobody_deactivates_or_deletes_themselves_but_a_superuser(api, admin, act):
    manager = person_with("manager", Role.ADMIN)
    denied(do(api(manager), act, manager))
    assert do(api(admin), act, admin).status_code in (200, 204)


def test_nobody_lifts_themselves_in_their_profile(api):
    manager = person("manager", *MANAGE)
    for change in ({"is_superuser": True}, {"is_staff": True}, {"roles": []}):
        assert fields_of(api(manager).patch(path_of(manager), change)) == dict.fromkeys(change, "unknown_field")


@pytest.mark.parametrize("field", ["is_superuser", "is_staff"])
def test_only_a_superuser_makes_superusers_and_staff_also_outside_the_api(admin, alice, field):
    with pytest.raises(ApiError) as caught:
        user_change(actor=person_with("manager", Role.ADMIN), user=alice, changes={field: True})
    assert caught.value.error_code == ErrorCode.PERMISSION_DENIED
    assert getattr(user_change(actor=admin, user=alice, changes={field: True}), field)


@pytest.mark.parametrize("owner", ["superuser", "admin role"])
def test_an_api_key_gives_no_more_than_its_scopes(admin, alice, owner):
    owner = admin if owner == "superuser" else person_with("manager", Role.ADMIN)
    client = client_with_key(owner, *MANAGE, READ)
    alice.groups.clear()
    answer = give(client, alice, role_named(Role.ADMIN))
    assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied")
    for act in ("change", "end sessions"):
        denied(do(client, act, admin))
    assert give(client, alice, role_with("reader", READ)).status_code == 200


# --- The last administrator ---


@pytest.fixture
def last(db):
    """The only administrator, by the built-in role."""
    return person_with("last", Role.ADMIN)


def refused(answer):
    problem_of(answer, ErrorCode.LAST_ADMINISTRATOR)


@pytest.mark.parametrize("act", ["deactivate", "delete"])
def test_a_superuser_who_is_the_last_stays(api, admin, act):
    before = state_of(admin)
    User.objects.create_superuser("gone", "gone@example.com", "x", is_active=False)
    client = api(admin)
    refused(do(client, act, admin))
    assert state_of(admin)[:4] == before[:4]
    assert client.get(USERS).status_code == 200


@pytest.mark.parametrize("act", ["deactivate", "delete", "take roles"])
def test_the_last_who_has_the_role_stays_whoever_acts(last, act):
    acts = {
        "deactivate": lambda: user_change(actor=None, user=last, changes={"is_active": False}),
        "delete": lambda: user_delete(actor=None, user=last),
        "take roles": lambda: user_roles_set(actor=None, user=last, roles=[role_named(Role.SERVICE)]),
    }
    with pytest.raises(ApiError) as caught:
        acts[act]()
    assert caught.value.error_code == ErrorCode.LAST_ADMINISTRATOR
    last.refresh_from_db()
    assert last.is_active
    assert role_named(Role.ADMIN) in Role.objects.filter(user=last)
    assert not AuditEntry.objects.exists()


def test_a_role_that_includes_all_that_the_admin_has_makes_administrators(api, db):
    child = role_with("child", parent=role_named(Role.ADMIN))
    copy = role_with("copy", *names_of(role_named(Role.ADMIN).permissions.all()), parent=role_named(Role.OPERATOR))
    role_with("nearly", *(names_of(role_named(Role.ADMIN).permissions.all()) - {"accounts.add_user"}))
    first, second = person_with("first", child), person_with("second", copy)
    person_with("third", "nearly")
    assert do(api(first), "take roles", second).status_code == 200
    with pytest.raises(ApiError) as caught:
        user_change(actor=None, user=first, changes={"is_active": False})
    assert caught.value.error_code == ErrorCode.LAST_ADMINISTRATOR


def test_where_there_is_no_administrator_users_can_be_changed_all_the_same(alice):
    assert not user_change(actor=None, user=alice, changes={"is_active": False}).is_active


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("act", "superusers"),
    [("take roles", False), ("deactivate", False), ("delete", False), ("deactivate", True), ("delete", True)],
)
def test_of_administrators_who_remove_each_other_at_once_one_stays(api, act, superusers):
    pair = [person_with(name, Role.ADMIN) for name in ("first", "second")]
    User.objects.update(is_superuser=superusers)
    clients = [api(user) for user in pair]
    start = Barrier(2)

    def remove(number):
        start.wait(20)
        try:
            return do(clients[number], act, pair[1 - number]).status_code
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        statuses = list(pool.map(remove, range(2)))
    assert sum(status in (200, 204) for status in statuses) == 1, statuses
    assert set(statuses) - {200, 204} <= {401, 403}
    assert there_is_an_administrator()


# --- What one may do oneself ---


def test_a_user_sees_their_own_permissions_and_roles(api, alice):
    body = api(alice).get(MINE).json()
    assert {READ, SUBMIT} <= set(body["permissions"])
    assert "accounts.view_user" not in body["permissions"]
    assert [role["name"] for role in body["roles"]] == ["operator", "viewer"]
    assert (body["denied_routes"], body["obligations"]) == ({}, [])
    assert client_with_key(alice, READ).get(MINE).json()["permissions"] == [READ]


def test_a_user_interface_asks_for_what_it_needs(api, alice, admin):
    names = [READ, "accounts.view_user"]
    assert api(alice).post(CHECK, {"permissions": names}).json() == {"results": {READ: True, names[1]: False}}
    assert api(admin).post(CHECK, {"permissions": names}).json() == {"results": {READ: True, names[1]: True}}
    assert client_with_key(alice, SUBMIT).post(CHECK, {"permissions": [READ]}).json() == {"results": {READ: False}}
    assert api(alice).post(CHECK, {"permissions": []}).json() == {"results": {}}


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, {"permissions": "required"}),
        ({"permissions": READ}, {"permissions": "not_a_list"}),
        ({"permissions": [READ] * 101}, {"permissions": "max_length"}),
        ({"permissions": [7]}, {"permissions.0": "invalid"}),
        ({"permissions": ["\0"]}, {"permissions.0": "null_characters_not_allowed"}),
        ({"permissions": [READ, "commands.fly"]}, {"permissions": "does_not_exist"}),
        ({"permissions": ["read_own_command"]}, {"permissions": "does_not_exist"}),
        ({"permissions": ["."]}, {"permissions": "does_not_exist"}),
        ({"permission": READ}, {"permission": "unknown_field"}),
    ],
    ids=lambda given: str(given)[:40],
)
def test_a_permission_that_there_is_not_is_named(api, alice, body, fields):
    answer = api(alice).post(CHECK, body)
    assert fields_of(answer) == fields
    if "commands.fly" in str(body):
        assert "commands.fly" in answer.json()["errors"][0]["detail"]


def test_who_was_deactivated_a_moment_ago_does_nothing_whatever_the_door_still_believed(alice):
    manager = person("manager", *MANAGE)
    User.objects.filter(id=manager.id).update(is_active=False)
    with pytest.raises(ApiError) as caught:
        user_change(actor=manager, user=alice, changes={"first_name": "A"})
    assert caught.value.error_code == ErrorCode.PERMISSION_DENIED
