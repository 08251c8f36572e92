"""What administrators give to users and take from them, which is felt at once."""

import pytest

from accounts.models import AuditEntry, DeviceSession, Role
from accounts.tests.people import person
from accounts.tests.users_api.calls import ME, NOBODY, USERS, actions, path_of
from conftest import PASSWORD
from gateway.api.errors import ErrorCode
from gateway.tests.expect import escaped_json, fields_of, problem_of

pytestmark = [pytest.mark.django_db, pytest.mark.security, pytest.mark.security_access]


@pytest.mark.django_db(transaction=True)
def test_who_is_deactivated_is_out_at_once_and_stays_out_of_old_sessions(api, admin, alice):
    own = api(alice)
    assert own.get(ME).status_code == 200
    client = api(admin)
    client.patch(path_of(alice), {"is_active": False})
    problem_of(own.get(ME), ErrorCode.SESSION_ENDED)
    client.patch(path_of(alice), {"is_active": True})
    problem_of(own.get(ME), ErrorCode.SESSION_ENDED)
    assert api(alice).get(ME).status_code == 200


@pytest.mark.django_db(transaction=True)
def test_who_is_deleted_is_out_at_once_and_remembered_in_the_record(api, admin, alice):
    own = api(alice)
    assert own.get(ME).status_code == 200
    answer = api(admin).delete(path_of(alice))
    assert (answer.status_code, answer.content) == (204, b"")
    problem_of(own.get(ME), ErrorCode.SESSION_ENDED)
    assert AuditEntry.objects.get(action="user_deleted").target_name == "alice"


@pytest.mark.django_db(transaction=True)
def test_who_must_change_the_password_can_do_nothing_else_at_once(api, admin, alice):
    own = api(alice)
    assert own.get("/api/v2/commands").status_code == 200
    api(admin).patch(path_of(alice), {"must_change_password": True})
    problem_of(own.get("/api/v2/commands"), ErrorCode.PASSWORD_CHANGE_REQUIRED)
    assert own.get("/api/v2/me/permissions").json()["obligations"] == ["password_change_required"]


@pytest.mark.django_db(transaction=True)
def test_the_devices_of_a_user_are_listed_and_signed_out(api, admin, alice, bob):
    own, other = api(alice), api(bob)
    api(alice)
    client = api(admin)
    rows = client.get(path_of(alice, "/sessions"), {"limit": 1}).json()
    assert len(rows["results"]) == 1
    assert rows["next"]
    assert rows["results"][0].keys() >= {"id", "device_name", "user_agent", "address", "last_seen_at"}
    assert other.get(ME).status_code == own.get(ME).status_code == 200
    answer = client.delete(path_of(alice, "/sessions"))
    assert (answer.status_code, answer.content) == (204, b"")
    problem_of(own.get(ME), ErrorCode.SESSION_ENDED)
    assert other.get(ME).status_code == 200
    assert client.get(path_of(alice, "/sessions")).json()["results"] == []
    assert client.delete(path_of(alice, "/sessions")).status_code == 204
    assert {session.end_reason for session in DeviceSession.objects.filter(user=alice)} == {"administrator"}
    assert actions() == ["session_ended"] * 2


def test_roles_are_set_as_a_whole_and_written_down(client, alice):
    ids = [str(Role.objects.get(name=name).public_id) for name in ("viewer", "service")]
    answer = client.put(path_of(alice, "/roles"), {"roles": ids, "reason": "moved"})
    assert [role["name"] for role in answer.json()["roles"]] == ["service", "viewer"]
    assert client.put(path_of(alice, "/roles"), {"roles": [*ids, ids[0]]}).status_code == 200
    entry = AuditEntry.objects.get(action="user_roles_changed")
    assert (entry.changes, entry.reason) == ({"roles": [["operator"], ["service", "viewer"]]}, "moved")


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ({}, {"roles": "required"}),
        ({"roles": None}, {"roles": "null"}),
        ({"roles": {}}, {"roles": "not_a_list"}),
        ({"roles": [NOBODY]}, {"roles": "does_not_exist"}),
        ({"roles": [NOBODY] * 101}, {"roles": "max_length"}),
        ({"roles": ["\0"]}, {"roles.0": "invalid"}),
        ({"roles": [-1]}, {"roles.0": "invalid"}),
        ({"roles": [], "is_staff": True}, {"is_staff": "unknown_field"}),
        ([], {"body": "invalid"}),
    ],
    ids=lambda given: str(given)[:40],
)
def test_roles_that_are_none_are_refused(client, alice, body, fields):
    assert fields_of(client.put(path_of(alice, "/roles"), **escaped_json(body))) == fields
    assert [group.name for group in alice.groups.all()] == ["operator"]


@pytest.mark.django_db(transaction=True)
def test_a_role_that_is_taken_away_is_felt_on_the_next_request(api, admin, alice):
    own = api(alice)
    assert own.get("/api/v2/commands").status_code == 200
    client = api(admin)
    client.put(path_of(alice, "/roles"), {"roles": []})
    body = own.get("/api/v2/commands")
    assert (body.status_code, body.json()["permission"]) == (403, "commands.read_own_command")
    client.put(path_of(alice, "/roles"), {"roles": [str(Role.objects.get(name="viewer").public_id)]})
    assert own.get("/api/v2/commands").status_code == 200


def test_a_user_who_was_locked_out_can_sign_in_again(client, api, alice):
    login, stranger = {"login": "alice", "password": PASSWORD}, api(None)
    wrong = (stranger.post("/api/v2/auth/login", {**login, "password": "wrong"}) for _ in range(50))
    problem_of(next(answer for answer in wrong if answer.status_code != 401), ErrorCode.TOO_MANY_ATTEMPTS)
    problem_of(stranger.post("/api/v2/auth/login", login), ErrorCode.TOO_MANY_ATTEMPTS)
    answer = client.post(path_of(alice, "/unlock"))
    assert (answer.status_code, answer.content) == (204, b"")
    assert api(None).post("/api/v2/auth/login", login).status_code == 200


@pytest.mark.parametrize(
    ("method", "tail"),
    [
        *(("get", ""), ("patch", ""), ("delete", "")),
        *(("put", "/roles"), ("get", "/sessions"), ("delete", "/sessions"), ("post", "/unlock")),
    ],
)
def test_a_user_that_there_is_not_is_not_found(client, method, tail):
    problem_of(getattr(client, method)(f"{USERS}/{NOBODY}{tail}"), ErrorCode.NOT_FOUND)


def test_who_may_only_read_users_can_change_nothing(api, alice):
    client = api(person("reader", "accounts.view_user"))
    assert client.get(path_of(alice)).status_code == 200
    for method, tail, permission in (
        ("patch", "", "accounts.change_user"),
        ("delete", "", "accounts.delete_user"),
        ("put", "/roles", "accounts.assign_role"),
        ("get", "/sessions", "accounts.view_devicesession"),
        ("delete", "/sessions", "accounts.end_session"),
        ("post", "/unlock", "accounts.unlock_user"),
    ):
        answer = getattr(client, method)(path_of(alice, tail))
        assert (answer.status_code, answer.json()["permission"]) == (403, permission)
