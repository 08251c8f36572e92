"""Users as administrators make and see them."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from django.db import connection

from accounts.models import AuditEntry, Mail, Role, User
from accounts.tests.people import person, person_with, role_with
from accounts.tests.users_api.calls import NEW, NOBODY, USERS, path_of
from gateway.api.errors import ErrorCode
from gateway.tests.expect import escaped_json, fields_of, problem_of

pytestmark = [pytest.mark.django_db, pytest.mark.security, pytest.mark.security_access]


def without(names):
    return {field: value for field, value in NEW.items() if field not in names}


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


def test_to_give_roles_to_a_new_user_one_must_be_allowed_to_give_roles(api):
    can_read = "commands.read_own_command"
    ids = [str(role_with("reader", can_read).public_id)]
    maker = person("maker", "accounts.add_user", can_read)
    answer = api(maker).post(USERS, {**NEW, "roles": ids})
    assert (answer.status_code, answer.json()["permission"]) == (403, "accounts.assign_role")
    assert api(maker).post(USERS, {**NEW, "roles": []}).status_code == 201
