"""Users as administrators see, make and change them."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from django.db import connection

from accounts.models import AuditEntry, DeviceSession, Mail, Role, User
from accounts.tests.people import person, person_with, role_with
from conftest import PASSWORD
from gateway.api.errors import ErrorCode
from gateway.tests.expect import escaped_json, fields_of, problem_of

pytestmark = [pytest.mark.django_db, pytest.mark.security, pytest.mark.security_access]

USERS, ME = "/api/v2/users", "/api/v2/me"
NOBODY = "019330d0-6f1e-7c3a-9d0b-2f5f0c6f0001"
NEW = {"username": "carol", "email": "carol@example.com", "password": "a long new password"}


@pytest.fixture
def client(api, admin):
    return api(admin)


def path_of(user, tail=""):
    return f"{USERS}/{user.id}{tail}"


def without(names):
    return {field: value for field, value in NEW.items() if field not in names}


def actions():
    return list(AuditEntry.objects.exclude(action="signed_in").order_by("id").values_list("action", flat=True))


def test_a_user_is_made_with_the_role_of_new_users(client, api, admin):
    answer = client.post(USERS, NEW)
    carol = User.objects.get(username="carol")
    assert (answer.status_code, answer["Location"]) == (201, path_of(carol))
    assert answer.json() == client.get(path_of(carol)).json()
    assert [role["name"] for role in answer.json()["roles"]] == ["operator"]
    assert "password" not in answer.json()
    assert (carol.is_staff, carol.is_superuser) == (False, False)
    login = {"login": "carol", "password": NEW["password"]}
    assert api(None).post("/api/v2/auth/login", login).status_code == 200
    entry = AuditEntry.objects.get(action="user_created")
    assert (entry.actor_id, entry.target_id, entry.changes) == (admin.id, str(carol.id), {"roles": [[], ["operator"]]})
    assert Mail.objects.get().address == "carol@example.com"


def test_a_first_password_can_be_for_the_first_sign_in_only(client, api):
    assert client.post(USERS, {**NEW, "must_change_password": True}).json()["must_change_password"] is True
    login = {"login": NEW["username"], "password": NEW["password"]}
    token = api(None).post("/api/v2/auth/login", login).json()["access"]
    carol = api(None)
    carol.credentials(HTTP_AUTHORIZATION=f"Bearer {token}")
    problem_of(carol.get("/api/v2/commands"), ErrorCode.PASSWORD_CHANGE_REQUIRED)


@pytest.mark.parametrize("names", [[], ["viewer"], ["viewer", "service"]])
def test_a_user_is_made_with_the_roles_that_were_named(client, names):
    ids = [str(Role.objects.get(name=name).public_id) for name in names]
    answer = client.post(USERS, {**NEW, "roles": ids})
    assert [role["name"] for role in answer.json()["roles"]] == sorted(names)


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        ({"username": None}, {"username": "null"}),
        ({"username": ""}, {"username": "blank"}),
        ({"username": 7}, {"username": "invalid"}),
        ({"username": "a" * 151}, {"username": "max_length"}),
        ({"username": "\ufb03" * 51}, {"username": "max_length"}),  # a ligature: three letters under NFKC
        ({"username": "a b"}, {"username": "invalid_username"}),
        ({"username": "a@b"}, {"username": "invalid_username"}),
        ({"username": "a\0"}, {"username": "null_characters_not_allowed"}),
        ({"username": "\ud800"}, {"username": "surrogate_characters_not_allowed"}),
        ({"email": "carol"}, {"email": "invalid"}),
        ({"email": ["carol@example.com"]}, {"email": "invalid"}),
        ({"email": f"{'a' * 250}@example.com"}, {"email": "max_length"}),
        ({"email": "al\u0131ce@example.com"}, {"email": "invalid"}),
        ({"password": "short"}, {"password": "password_too_short"}),
        ({"password": "12345678901234"}, {"password": "password_entirely_numeric"}),
        ({"password": "p" * 1025}, {"password": "max_length"}),
        ({"password": "carol@example.com"}, {"password": "password_too_similar"}),
        ({"roles": "viewer"}, {"roles": "not_a_list"}),
        ({"roles": ["viewer"]}, {"roles.0": "invalid"}),
        ({"roles": [None]}, {"roles.0": "null"}),
        ({"roles": [NOBODY]}, {"roles": "does_not_exist"}),
        ({"is_staff": True}, {"is_staff": "unknown_field"}),
        ({"is_superuser": True, "is_active": False}, {"is_superuser": "unknown_field", "is_active": "unknown_field"}),
    ],
    ids=lambda given: str(given)[:40],
)
def test_bad_input_names_the_field_and_makes_nobody(client, change, fields):
    assert fields_of(client.post(USERS, **escaped_json({**NEW, **change}))) == fields
    assert User.objects.count() == 1


@pytest.mark.parametrize("missing", NEW)
def test_a_field_that_is_missing_is_named(client, missing):
    assert fields_of(client.post(USERS, without([missing]))) == {missing: "required"}


@pytest.mark.parametrize(
    ("change", "fields"),
    [
        ({"username": "ALICE"}, {"username": "unique"}),
        ({"username": "\uff41\uff4c\uff49\uff43\uff45"}, {"username": "unique"}),  # full-width
        ({"username": "\U0001d41alice"}, {"username": "unique"}),  # mathematical bold
        ({"username": "\u0430lice"}, {"username": "invalid_username"}),  # a Cyrillic a
        ({"username": "al\u03b9ce"}, {"username": "invalid_username"}),  # a Greek iota
        ({"username": "alice\u200b"}, {"username": "invalid_username"}),  # a space without width
        ({"username": "ali\u0301ce"}, None),  # composed by NFKC, and a letter of its own
        ({"username": "al\u0131ce"}, {"username": "unique"}),  # without the dot
        ({"email": "ALICE@Example.COM"}, {"email": "unique"}),
        ({"email": "alice@\uff45xample.com"}, {"email": "unique"}),
        ({"username": "Alice", "email": "alice@example.com"}, {"username": "unique", "email": "unique"}),
        ({"username": "ÇAĞLAŞ"}, {"username": "unique"}),
    ],
    ids=ascii,
)
def test_look_alikes_of_a_name_are_that_name_or_refused(client, alice, change, fields):
    person_with("çağlaş", Role.VIEWER)
    answer = client.post(USERS, {**NEW, **change})
    if fields is None:
        assert answer.status_code == 201
    else:
        assert fields_of(answer) == fields
        assert User.objects.count() == 3


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("same", ["username", "email"])
def test_of_many_who_take_a_name_at_once_one_gets_it(api, admin, same):
    clients = [api(admin) for _ in range(4)]
    start = Barrier(len(clients))

    def create(number):
        own = {"username": f"carol{number}", "email": f"carol{number}@example.com", "password": NEW["password"]}
        start.wait(20)
        try:
            return clients[number].post(USERS, {**own, same: NEW[same].upper() if number % 2 else NEW[same]})
        finally:
            connection.close()

    with ThreadPoolExecutor(len(clients)) as pool:
        answers = list(pool.map(create, range(len(clients))))
    refused = [answer for answer in answers if answer.status_code != 201]
    assert len(refused) == len(clients) - 1
    assert all(fields_of(answer) == {same: "unique"} for answer in refused)
    assert User.objects.count() == 2


def names_of(answer):
    assert answer.status_code == 200, answer.content
    return [row["username"] for row in answer.json()["results"]]


def test_the_list_holds_everybody_the_newest_first_in_pages(client, alice, bob):
    assert names_of(client.get(USERS)) == ["bob", "alice", "admin"]
    first = client.get(USERS, {"limit": 2})
    assert names_of(first) == ["bob", "alice"]
    assert names_of(client.get(first.json()["next"])) == ["admin"]


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ({"q": "LIC"}, ["alice"]),
        ({"q": "b@EXAMPLE"}, ["bob"]),
        ({"q": "%"}, []),
        ({"q": "_"}, []),
        ({"q": "example.com"}, ["çağla", "bob", "alice", "admin"]),
        ({"q": "ĞLA"}, ["çağla"]),
        ({"is_active": "false"}, ["bob"]),
        ({"is_active": "true"}, ["çağla", "alice", "admin"]),
        ({"role": "admin"}, ["admin"]),
        ({"role": "viewer"}, ["çağla"]),
        ({"role": "operator", "is_active": "true", "q": "a"}, ["alice"]),
    ],
    ids=lambda given: str(given)[:40],
)
def test_the_list_is_filtered(client, alice, bob, query, names):
    person_with("çağla", Role.VIEWER)
    User.objects.filter(id=bob.id).update(is_active=False)
    if "role" in query:
        query["role"] = Role.objects.get(name=query["role"]).public_id
    assert names_of(client.get(USERS, query)) == names


@pytest.mark.parametrize(
    ("query", "fields"),
    [
        ({"q": ""}, {"q": "blank"}),
        ({"q": "a\0"}, {"q": "null_characters_not_allowed"}),
        ({"q": "a" * 255}, {"q": "max_length"}),
        ({"is_active": "yes"}, {"is_active": "invalid_choice"}),
        ({"role": "viewer"}, {"role": "invalid"}),
        ({"is_staff": "true"}, {"is_staff": "unknown_field"}),
        ({"limit": "0"}, {"limit": "invalid"}),
        ({"cursor": "x"}, {"cursor": "invalid"}),
    ],
    ids=lambda given: str(given)[:40],
)
def test_a_filter_that_is_none_is_refused(client, query, fields):
    assert fields_of(client.get(USERS, query)).keys() == fields.keys()


@pytest.mark.parametrize(
    "change",
    [
        {"email": "New@example.com"},
        {"first_name": "Ayşe", "last_name": ""},
        {"language": "tr"},
        {"is_active": False},
        {"must_change_password": True},
    ],
    ids=lambda given: str(given)[:40],
)
def test_a_change_is_made_told_and_written_down(client, alice, admin, change):
    answer = client.patch(path_of(alice), {**change, "reason": "as asked"})
    assert answer.status_code == 200, answer.content
    assert {field: answer.json()[field] for field in change} == change
    assert answer.json() == client.get(path_of(alice)).json()
    entry = AuditEntry.objects.get(action="user_changed")
    assert (entry.actor_id, entry.target_name, entry.reason) == (admin.id, "alice", "as asked")
    assert {field: values[1] for field, values in entry.changes.items()} == {
        field: value for field, value in change.items() if value != ""
    }


def test_a_change_that_changes_nothing_is_not_written_down(client, alice):
    assert client.patch(path_of(alice), {"email": "alice@example.com", "is_active": True}).status_code == 200
    assert client.patch(path_of(alice), {}).status_code == 200
    assert actions() == []


def test_a_new_address_is_unverified_and_told_to_both(client, alice):
    alice.email_verified_at = alice.date_joined
    alice.save()
    assert client.patch(path_of(alice), {"email": "new@example.com"}).json()["email_verified_at"] is None
    assert set(Mail.objects.values_list("address", flat=True)) == {"alice@example.com", "new@example.com"}


@pytest.mark.parametrize(
    "change",
    [
        {"is_staff": True},
        {"is_superuser": True},
        {"roles": []},
        {"groups": []},
        {"user_permissions": []},
        {"password": "another password"},
        {"username": "malice"},
        {"id": NOBODY},
        {"email_verified_at": "2026-01-01T00:00:00Z"},
        {"date_joined": "2026-01-01T00:00:00Z"},
    ],
    ids=lambda given: str(given)[:40],
)
def test_what_is_not_to_be_changed_here_is_refused_by_name(client, alice, change):
    before = User.objects.filter(id=alice.id).values().get()
    answer = client.patch(path_of(alice), {"first_name": "A", **change})
    assert fields_of(answer) == dict.fromkeys(change, "unknown_field")
    assert User.objects.filter(id=alice.id).values().get() == before


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"email": "bob@example.com"}, "unique"),
        ({"email": "BOB@Example.com"}, "unique"),
        ({"email": "x"}, "invalid"),
        ({"first_name": "a" * 151}, "max_length"),
        ({"first_name": 1}, "invalid"),
        ({"last_name": "\0"}, "null_characters_not_allowed"),
        ({"language": "xx"}, "invalid_choice"),
        ({"language": []}, "invalid_choice"),
        ({"is_active": "no"}, "invalid"),
        ({"is_active": 0}, "invalid"),
        ({"is_active": None}, "null"),
        ({"must_change_password": []}, "invalid"),
        ({"reason": "r" * 201}, "max_length"),
    ],
    ids=lambda given: str(given)[:40],
)
def test_a_bad_value_names_the_field_and_changes_nothing(client, alice, bob, change, code):
    before = User.objects.filter(id=alice.id).values().get()
    answer = client.patch(path_of(alice), **escaped_json({"language": "tr", **change}))
    assert fields_of(answer) == dict.fromkeys(change, code)
    assert User.objects.filter(id=alice.id).values().get() == before


def test_ones_own_address_in_other_letters_is_not_taken(client, alice):
    assert client.patch(path_of(alice), {"email": "Alice@example.com"}).json()["email"] == "Alice@example.com"


ACTS: list[tuple[str, str, dict[str, object] | None]] = [
    ("patch", "", {"first_name": "Ayşe"}),
    ("delete", "", None),
    ("put", "/roles", {"roles": []}),
]


@pytest.mark.parametrize(("method", "tail", "body"), ACTS)
@pytest.mark.parametrize("accept", ["application/json", "application/json; indent=4"])
def test_what_was_changed_meanwhile_is_not_overwritten(client, alice, method, tail, body, accept):
    etag = client.get(path_of(alice), headers={"Accept": accept})["ETag"]
    act = getattr(client, method)
    User.objects.filter(id=alice.id).update(language="tr")
    headers = {"If-Match": etag, "Accept": accept}
    problem_of(act(path_of(alice, tail), body, headers=headers), ErrorCode.PRECONDITION_FAILED)
    assert User.objects.get(id=alice.id).groups.exists()
    User.objects.filter(id=alice.id).update(language="en")
    assert act(path_of(alice, tail), body, headers=headers).status_code in (200, 204)


@pytest.mark.parametrize("header", ['"x"', "W/{etag}", "x", "", '"x", "y"'])
def test_an_etag_of_something_else_does_not_match(client, alice, header):
    etag = client.get(path_of(alice))["ETag"]
    answer = client.patch(path_of(alice), {"language": "tr"}, headers={"If-Match": header.format(etag=etag)})
    problem_of(answer, ErrorCode.PRECONDITION_FAILED)


def test_the_answer_to_a_change_has_the_etag_for_the_next(client, alice):
    etag = client.get(path_of(alice))["ETag"]
    for name in ("A", "B"):
        answer = client.patch(path_of(alice), {"first_name": name}, headers={"If-Match": f'"x", {etag}'})
        assert answer.status_code == 200
        etag = answer["ETag"]
    assert client.get(path_of(alice))["ETag"] == etag
    assert client.patch(path_of(alice), {"first_name": "C"}, headers={"If-Match": "*"}).status_code == 200


@pytest.mark.django_db(transaction=True)
def test_of_two_who_change_the_same_state_at_once_one_is_told(api, admin, alice):
    clients = [api(admin), api(admin)]
    etag = clients[0].get(path_of(alice))["ETag"]
    start = Barrier(2)

    def change(client):
        start.wait(20)
        try:
            body = {"first_name": f"name {clients.index(client)}"}
            return client.patch(path_of(alice), body, headers={"If-Match": etag}).status_code
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(change, clients)) == [200, 412]


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


def test_to_give_roles_to_a_new_user_one_must_be_allowed_to_give_roles(api):
    can_read = "commands.read_own_command"
    ids = [str(role_with("reader", can_read).public_id)]
    maker = person("maker", "accounts.add_user", can_read)
    answer = api(maker).post(USERS, {**NEW, "roles": ids})
    assert (answer.status_code, answer.json()["permission"]) == (403, "accounts.assign_role")
    assert api(maker).post(USERS, {**NEW, "roles": []}).status_code == 201
