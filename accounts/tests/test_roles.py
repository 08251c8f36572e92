"""Roles: made, changed and deleted by those who have what they give; inherited without cycles."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from django.db import connection

from accounts.models import AuditEntry, Role, RouteRule
from accounts.permissions import role_permissions, with_parents
from accounts.services.roles import role_delete
from accounts.tests.people import person, person_with, role_with
from gateway.api.errors import ApiError, ErrorCode
from gateway.tests.expect import escaped_json, fields_of, problem_of

pytestmark = [pytest.mark.django_db, pytest.mark.security, pytest.mark.security_access]

ROLES, COMMANDS = "/api/v2/roles", "/api/v2/commands"
NOBODY = "019330d0-6f1e-7c3a-9d0b-2f5f0c6f0001"
READ, SUBMIT, CANCEL = "commands.read_own_command", "commands.submit_command", "commands.cancel_own_command"
MANAGE = ("accounts.view_role", "accounts.add_role", "accounts.change_role", "accounts.delete_role")
BUILT_IN = (Role.VIEWER, Role.OPERATOR, Role.SERVICE, Role.ADMIN)


@pytest.fixture
def client(api, admin):
    return api(admin)


def path_of(role):
    return f"{ROLES}/{role.public_id}"


def role_named(name):
    return Role.objects.get(name=name)


def denied(answer, permission):
    assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied"), answer.content
    assert answer.json()["permission"] == permission


def test_a_role_is_made_with_own_and_inherited_permissions(client, admin):
    viewer = role_named(Role.VIEWER)
    body = {
        "name": "Night shift",
        "description": "Cancels at night.",
        "parent": str(viewer.public_id),
        "permissions": [CANCEL, READ],
        "requires_second_factor": True,
    }
    answer = client.post(ROLES, body)
    role = role_named("Night shift")
    assert (answer.status_code, answer["Location"]) == (201, path_of(role))
    got = client.get(answer["Location"]).json()
    assert got == answer.json()
    assert got == {
        **body,
        "id": str(role.public_id),
        "permissions": [CANCEL, READ],
        "inherited_permissions": sorted(role_permissions(viewer) - {READ}),
        "built_in": False,
    }
    entry = AuditEntry.objects.get(action="role_created")
    assert (entry.actor_id, entry.target_name, entry.changes["parent"]) == (admin.id, "Night shift", [None, "viewer"])


def test_a_name_is_enough(client):
    got = client.post(ROLES, {"name": "empty"}).json()
    assert (got["parent"], got["permissions"], got["inherited_permissions"], got["description"]) == (None, [], [], "")


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        ({"name": None}, {"name": "null"}),
        ({"name": ""}, {"name": "blank"}),
        ({"name": 1}, {"name": "invalid"}),
        ({"name": "a" * 151}, {"name": "max_length"}),
        ({"name": "\ufb03" * 51}, {"name": "invalid"}),  # longer under NFKC
        ({"name": " a"}, {"name": "invalid"}),
        ({"name": "a  b"}, {"name": "invalid"}),
        ({"name": "a\nb"}, {"name": "invalid"}),
        ({"name": "\0"}, {"name": "null_characters_not_allowed"}),
        ({"name": "\ud800"}, {"name": "surrogate_characters_not_allowed"}),
        ({"name": "ADMIN"}, {"name": "unique"}),
        ({"name": "\uff41dmin"}, {"name": "unique"}),  # full-width
        ({"name": "\u0430dmin"}, {"name": "invalid"}),  # Cyrillic
        ({"name": "ÇAĞ"}, {"name": "unique"}),
        ({"description": "d" * 201}, {"description": "max_length"}),
        ({"description": []}, {"description": "invalid"}),
        ({"parent": "viewer"}, {"parent": "invalid"}),
        ({"parent": NOBODY}, {"parent": "does_not_exist"}),
        ({"parent": {}}, {"parent": "invalid"}),
        ({"permissions": READ}, {"permissions": "not_a_list"}),
        ({"permissions": ["commands.fly"]}, {"permissions": "does_not_exist"}),
        ({"permissions": [{}]}, {"permissions.0": "invalid"}),
        ({"permissions": [READ] * 1001}, {"permissions": "max_length"}),
        ({"requires_second_factor": "yes"}, {"requires_second_factor": "invalid"}),
        ({"built_in": True}, {"built_in": "unknown_field"}),
        ({"inherited_permissions": [READ]}, {"inherited_permissions": "unknown_field"}),
        ({"public_id": NOBODY, "id": 1}, {"public_id": "unknown_field", "id": "unknown_field"}),
    ],
    ids=lambda given: ascii(given)[:40],
)
@pytest.mark.parametrize("method", ["post", "patch"])
def test_bad_input_names_the_field_and_changes_nothing(client, method, change, fields):
    role_with("çağ")
    role = role_with("own", READ)
    before = list(Role.objects.values())
    answer = getattr(client, method)(
        ROLES if method == "post" else path_of(role), **escaped_json({"name": "new", **change})
    )
    assert fields_of(answer) == fields
    assert list(Role.objects.values()) == before
    assert role_permissions(role) == {READ}


def test_the_list_holds_all_roles_the_built_in_first_in_pages(
    client, django_assert_num_queries, django_capture_on_commit_callbacks
):
    with django_capture_on_commit_callbacks(execute=True):
        for number in range(3):
            role_with(f"role{number}", READ, parent=role_named(Role.VIEWER))
    client.get(ROLES)
    with django_assert_num_queries(3):
        rows = client.get(ROLES).json()["results"]
    assert [row["name"] for row in rows] == [*BUILT_IN, "role0", "role1", "role2"]
    assert [row["built_in"] for row in rows] == [True] * 4 + [False] * 3
    first = client.get(ROLES, {"limit": 5}).json()
    assert [row["name"] for row in client.get(first["next"]).json()["results"]] == ["role1", "role2"]
    assert fields_of(client.get(ROLES, {"cursor": "cD0x"})) == {"cursor": "invalid"}


def test_descriptions_of_built_in_roles_are_there_for_people(client):
    assert client.get(path_of(role_named(Role.ADMIN))).json()["description"] == "May do everything."


def test_all_permissions_are_listed_by_name_in_pages(client):
    names, link = [], "/api/v2/permissions?limit=100"
    while link:
        body = client.get(link).json()
        names += [row["name"] for row in body["results"]]
        assert all(row["description"] for row in body["results"])
        link = body["next"]
    assert names == sorted(names)
    assert set(names) == role_permissions(role_named(Role.ADMIN))


@pytest.mark.parametrize(
    "change",
    [
        {"name": "renamed"},
        {"name": "OWN"},
        {"description": "other"},
        {"permissions": [SUBMIT]},
        {"permissions": []},
        {"parent": None},
        {"requires_second_factor": True},
    ],
    ids=str,
)
def test_a_change_is_made_told_and_written_down(client, change):
    role = role_with("own", READ, parent=role_named(Role.VIEWER))
    answer = client.patch(path_of(role), {**change, "reason": "as asked"})
    assert answer.status_code == 200, answer.content
    assert {field: answer.json()[field] for field in change} == change
    assert answer.json() == client.get(path_of(role)).json()
    entry = AuditEntry.objects.get(action="role_changed")
    assert (entry.changes.keys(), entry.reason) == (change.keys(), "as asked")


def test_a_change_that_changes_nothing_is_not_written_down(client):
    role = role_with("own", READ)
    assert client.patch(path_of(role), {"name": "own", "permissions": [READ, READ]}).status_code == 200
    assert not AuditEntry.objects.filter(action="role_changed").exists()


def test_what_was_changed_meanwhile_is_not_overwritten(client):
    role = role_with("own", READ)
    etag = client.get(path_of(role))["ETag"]
    answer = client.patch(path_of(role), {"permissions": [SUBMIT]}, headers={"If-Match": etag})
    assert answer.status_code == 200
    for act in (client.patch, client.delete):
        problem_of(act(path_of(role), {}, headers={"If-Match": etag}), ErrorCode.PRECONDITION_FAILED)
    assert client.get(path_of(role))["ETag"] == answer["ETag"]
    assert client.delete(path_of(role), headers={"If-Match": answer["ETag"]}).status_code == 204


@pytest.mark.parametrize("name", BUILT_IN)
def test_of_a_built_in_role_only_the_second_factor_can_be_changed(client, name):
    role = role_named(name)
    before = client.get(path_of(role)).json()
    for change in ({"name": "mine"}, {"description": "x"}, {"permissions": []}, {"parent": str(role.public_id)}):
        answer = client.patch(path_of(role), {**change, "requires_second_factor": True})
        assert answer.status_code in (400, 409)
        assert "parent" in change or answer.json()["code"] == "built_in_role"
    problem_of(client.delete(path_of(role)), ErrorCode.BUILT_IN_ROLE)
    assert client.get(path_of(role)).json() == before
    answer = client.patch(path_of(role), {"requires_second_factor": True, "name": name})
    assert answer.json() == {**before, "requires_second_factor": True}


def test_a_role_is_deleted_and_its_members_lose_it(client, alice):
    role = role_with("own", READ)
    alice.groups.add(role)
    answer = client.delete(path_of(role))
    assert (answer.status_code, answer.content) == (204, b"")
    assert [group.name for group in alice.groups.all()] == ["operator"]
    assert AuditEntry.objects.get(action="role_deleted").changes["members"] == [["alice"], None]
    problem_of(client.get(path_of(role)), ErrorCode.NOT_FOUND)


def test_a_role_from_which_others_inherit_stays(client):
    role = role_with("own")
    role_with("child", parent=role)
    problem_of(client.delete(path_of(role)), ErrorCode.ROLE_IN_USE)


def test_a_role_for_which_a_rule_asks_stays_since_the_rule_would_go_with_it(client):
    role = role_with("gate")
    RouteRule.objects.create(method="GET", route="commands", role=role, reason="closed")
    problem_of(client.delete(path_of(role)), ErrorCode.ROLE_IN_USE)
    assert RouteRule.objects.exists()


@pytest.mark.parametrize("method", ["get", "patch", "delete"])
def test_a_role_that_there_is_not_is_not_found(client, method):
    problem_of(getattr(client, method)(f"{ROLES}/{NOBODY}"), ErrorCode.NOT_FOUND)


# --- Cycles ---


def test_a_role_inherits_from_itself_in_no_way(client):
    first = role_with("first")
    second = role_with("second", parent=first)
    third = role_with("third", parent=second)
    for parent in (first, second, third):
        assert fields_of(client.patch(path_of(first), {"parent": str(parent.public_id)})) == {"parent": "cycle"}
    assert client.patch(path_of(third), {"parent": str(first.public_id)}).status_code == 200
    assert client.patch(path_of(second), {"parent": str(third.public_id)}).status_code == 200
    assert [role.name for role in with_parents([second.pk])] == ["second", "third", "first"]


def at_once(*acts):
    """Do these at the same moment, each in a thread with a connection of its own."""
    start = Barrier(len(acts))

    def do(act):
        start.wait(20)
        try:
            return act()
        finally:
            connection.close()

    with ThreadPoolExecutor(len(acts)) as pool:
        return list(pool.map(do, acts))


@pytest.mark.django_db(transaction=True)
def test_of_two_changes_that_make_a_cycle_together_one_is_refused(api, admin):
    first, second = role_with("first"), role_with("second")
    one, other = api(admin), api(admin)
    answers = at_once(
        lambda: one.patch(path_of(first), {"parent": str(second.public_id)}),
        lambda: other.patch(path_of(second), {"parent": str(first.public_id)}),
    )
    assert sorted(answer.status_code for answer in answers) == [200, 400]
    assert Role.objects.filter(name__in=["first", "second"], parent=None).count() == 1


@pytest.mark.django_db(transaction=True)
def test_of_two_who_take_a_name_at_once_one_gets_it(api, admin):
    one, other = api(admin), api(admin)
    answers = at_once(lambda: one.post(ROLES, {"name": "Shift"}), lambda: other.post(ROLES, {"name": "shift"}))
    assert sorted(answer.status_code for answer in answers) == [201, 400]
    assert fields_of(next(answer for answer in answers if answer.status_code == 400)) == {"name": "unique"}


# --- Nobody gives away what they do not have ---


def test_nobody_makes_a_role_that_may_do_more_than_they(api):
    client = api(person("manager", *MANAGE, READ))
    submitters = role_with("submitters", SUBMIT)
    denied(client.post(ROLES, {"name": "new", "permissions": [READ, SUBMIT]}), SUBMIT)
    denied(client.post(ROLES, {"name": "new", "parent": str(submitters.public_id)}), SUBMIT)
    assert not Role.objects.filter(name="new").exists()
    assert client.post(ROLES, {"name": "new", "permissions": [READ, *MANAGE]}).status_code == 201


def test_nobody_changes_a_role_into_one_that_may_do_more_than_they_also_not_their_own(api):
    manager = person("manager", *MANAGE, READ)
    client, own, submitters = api(manager), Role.objects.get(user=manager), role_with("submitters", SUBMIT)
    denied(client.patch(path_of(own), {"permissions": [*MANAGE, READ, SUBMIT]}), SUBMIT)
    denied(client.patch(path_of(own), {"parent": str(submitters.public_id)}), SUBMIT)
    assert role_permissions(own) == {*MANAGE, READ}


def test_nobody_changes_or_deletes_a_role_that_may_do_more_than_they(api):
    client = api(person("manager", *MANAGE, READ))
    submitters = role_with("submitters", SUBMIT)
    children = role_with("children", parent=submitters)
    for role in (submitters, children):
        denied(client.patch(path_of(role), {"description": "x"}), SUBMIT)
    denied(client.delete(path_of(children)), SUBMIT)


def test_a_role_is_not_weakened_under_a_stronger_one_that_inherits_from_it(api):
    base = role_with("base", READ)
    role_with("stronger", SUBMIT, parent=base)
    denied(api(person("manager", *MANAGE, READ)).patch(path_of(base), {"permissions": []}), SUBMIT)


def test_a_role_that_opens_a_route_is_not_inherited_by_the_back_door(api):
    gate = role_with("gate")
    RouteRule.objects.create(method="GET", route="commands", role=gate, reason="closed")
    manager = person("manager", *MANAGE)
    denied(api(manager).patch(path_of(Role.objects.get(user=manager)), {"parent": str(gate.public_id)}), "gate")


@pytest.mark.parametrize("act", ["weaken", "move", "delete"])
def test_no_change_of_a_role_leaves_nobody_who_can_administer(api, act):
    role = role_with("bosses", parent=role_named(Role.ADMIN))
    boss = person_with("boss", role)
    client = api(boss)
    change = {"parent": None} if act == "weaken" else {"parent": str(role_named(Role.OPERATOR).public_id)}
    answer = client.delete(path_of(role)) if act == "delete" else client.patch(path_of(role), change)
    problem_of(answer, ErrorCode.LAST_ADMINISTRATOR)
    assert client.get(path_of(role)).json()["parent"] == str(role_named(Role.ADMIN).public_id)
    person_with("other", Role.ADMIN)
    answer = client.delete(path_of(role)) if act == "delete" else client.patch(path_of(role), change)
    assert answer.status_code in (200, 204)


def test_the_gateway_itself_keeps_to_that_too(db):
    role = role_with("bosses", parent=role_named(Role.ADMIN))
    person_with("boss", role)
    with pytest.raises(ApiError) as caught:
        role_delete(actor=None, role=role)
    assert caught.value.error_code == ErrorCode.LAST_ADMINISTRATOR


# --- On the next request ---


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("how", ["own", "inherited", "moved", "deleted"])
def test_a_change_of_a_role_is_felt_on_the_next_request(api, admin, how):
    role = role_with("readers", READ)
    members = role_with("members", parent=role) if how in ("inherited", "moved") else role
    own = api(person_with("carol", members))
    client = api(admin)
    assert own.get(COMMANDS).status_code == 200
    if how == "deleted":
        client.delete(path_of(role))
    elif how == "moved":
        client.patch(path_of(members), {"parent": None})
    else:
        client.patch(path_of(role), {"permissions": []})
    denied(own.get(COMMANDS), READ)
    if how in ("own", "inherited"):
        client.patch(path_of(role), {"permissions": [READ]})
        assert own.get(COMMANDS).status_code == 200


@pytest.mark.django_db(transaction=True)
def test_a_role_that_begins_to_require_a_second_factor_does_so_on_the_next_request(api, admin, alice):
    own = api(alice)
    assert own.get(COMMANDS).status_code == 200
    api(admin).patch(path_of(role_named(Role.VIEWER)), {"requires_second_factor": True})  # inherited by operators
    problem_of(own.get(COMMANDS), ErrorCode.SECOND_FACTOR_SETUP_REQUIRED)
