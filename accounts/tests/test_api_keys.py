"""Keys for machines: made once, shown once, worth no more than their scopes, and nothing once revoked."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import UUID

import pytest
from django.db import connection
from django.utils import timezone
from rest_framework.test import APIClient

from accounts.models import ApiKey, AuditEntry, Role, RouteRule
from accounts.services import api_keys
from accounts.services.api_keys import api_key_create, api_key_revoke
from accounts.sign_in import sha256_of, sign_in_by_token
from gateway.api.errors import ApiError, ErrorCode
from gateway.ids import new_id
from gateway.tests.expect import escaped_json, fields_of, problem_of

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.security, pytest.mark.security_sessions]

KEYS, ME, COMMANDS = "/api/v2/api-keys", "/api/v2/me", "/api/v2/commands"
READ, SUBMIT, MANAGE = "commands.read_own_command", "commands.submit_command", "accounts.manage_own_apikey"


def body(**changes):
    return {"name": "build server", "scopes": [READ], "expires_at": soon().isoformat(), **changes}


def soon(**delta):
    return timezone.now() + timedelta(**(delta or {"days": 1}))


def make(user, *scopes, **delta):
    return api_key_create(actor=user, name="robot", scopes=scopes or [READ], expires_at=soon(**delta))


def with_key(raw):
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {raw}")
    return client


# --- making and listing ----------------------------------------------------------------------------------------------


def test_a_key_is_shown_once_and_stored_as_a_hash(api, alice):
    client = api(alice)
    answer = client.post(KEYS, body(scopes=[SUBMIT, READ, READ]))
    assert answer.status_code == 201
    made = answer.json()
    raw = made.pop("key")
    assert raw.startswith(f"altlas_{UUID(made['id']).hex}_")
    assert len(raw.split("_", 2)[2]) == 43  # 256 bits
    assert raw.startswith(made["prefix"])
    assert made["scopes"] == sorted([READ, SUBMIT])
    assert (made["last_used_at"], made["last_used_address"], made["revoked_at"]) == (None, None, None)
    assert answer["Cache-Control"] == "no-store"
    [listed] = client.get(KEYS).json()["results"]
    assert listed == made
    row = ApiKey.objects.values().get()
    assert row["key_sha256"] == sha256_of(raw)
    assert raw.split("_", 2)[2] not in str(row)


def test_the_list_is_ones_own_newest_first_and_paged(api, alice, bob):
    names = [api_key_create(actor=alice, name=str(n), scopes=[READ], expires_at=soon())[0].name for n in range(3)]
    make(bob)
    client = api(alice)
    page = client.get(f"{KEYS}?limit=2").json()
    assert [row["name"] for row in page["results"]] == names[:0:-1]
    assert [row["name"] for row in client.get(page["next"]).json()["results"]] == names[:1]


WRONG = [
    ({"name": ""}, {"name": "blank"}),
    ({"name": "x" * 101}, {"name": "max_length"}),
    ({"name": 5}, {"name": "invalid"}),
    ({"name": "a\0b"}, {"name": "null_characters_not_allowed"}),
    ({"name": "\ud800"}, {"name": "surrogate_characters_not_allowed"}),
    ({"scopes": []}, {"scopes": "min_length"}),
    ({"scopes": READ}, {"scopes": "not_a_list"}),
    ({"scopes": [5]}, {"scopes.0": "invalid"}),
    ({"scopes": ["x" * 151]}, {"scopes.0": "max_length"}),
    ({"scopes": [READ, "commands.fly"]}, {"scopes": "does_not_exist"}),
    ({"scopes": [READ, "read_own_command"]}, {"scopes": "does_not_exist"}),
    ({"scopes": [READ, "a\0b"]}, {"scopes.1": "null_characters_not_allowed"}),
    ({"scopes": [READ, "accounts.add_user"]}, {"scopes": "not_held"}),
    ({"scopes": [READ] * 1001}, {"scopes": "max_length"}),
    ({"expires_at": None}, {"expires_at": "null"}),
    ({"expires_at": "soon"}, {"expires_at": "invalid"}),
    ({"expires_at": 1_900_000_000}, {"expires_at": "invalid"}),
    ({"expires_at": ["2027-01-01T00:00:00Z"]}, {"expires_at": "invalid"}),
    ({"expires_at": "2027-01-01T00:00:00"}, {"expires_at": "invalid"}),
    ({"expires_at": "9999-12-31T23:59:59-14:00"}, {"expires_at": "overflow"}),
    ({"expires_at": "0001-01-01T00:00:00+14:00"}, {"expires_at": "overflow"}),
    ({"expires_at": "2020-01-01T00:00:00Z"}, {"expires_at": "in_the_past"}),
    ({"expires_at": "2999-01-01T00:00:00Z"}, {"expires_at": "too_far"}),
    ({"key_sha256": "x" * 64}, {"key_sha256": "unknown_field"}),
    ({"user": "x"}, {"user": "unknown_field"}),
]


@pytest.mark.parametrize(("change", "fields"), WRONG, ids=[str(fields) + str(n) for n, (_, fields) in enumerate(WRONG)])
def test_a_wrong_value_is_named_and_makes_nothing(api, alice, change, fields):
    answer = api(alice).post(KEYS, **escaped_json(body(**change)))
    assert fields_of(answer) == fields
    assert not ApiKey.objects.exists()


@pytest.mark.parametrize("missing", ["name", "scopes", "expires_at"])
def test_a_value_that_is_missing_is_named(api, alice, missing):
    given = {name: value for name, value in body().items() if name != missing}
    assert fields_of(api(alice).post(KEYS, given)) == {missing: "required"}


def test_a_key_lives_a_year_at_most(api, alice):
    client = api(alice)
    assert client.post(KEYS, body(expires_at=soon(days=366, seconds=-5).isoformat())).status_code == 201
    answer = client.post(KEYS, body(expires_at=soon(days=366, seconds=5).isoformat()))
    assert fields_of(answer) == {"expires_at": "too_far"}


def test_nobody_has_more_live_keys_than_the_limit(api, alice, bob, monkeypatch):
    monkeypatch.setattr(api_keys, "MAX_LIVE_KEYS", 3)
    made = [make(alice)[0] for _ in range(3)]
    problem_of(api(alice).post(KEYS, body()), ErrorCode.TOO_MANY_API_KEYS)
    assert api(bob).post(KEYS, body()).status_code == 201
    api_key_revoke(actor=alice, api_key=made[0])
    ApiKey.objects.filter(id=made[1].id).update(expires_at=timezone.now())
    assert [api(alice).post(KEYS, body()).status_code for _ in range(3)] == [201, 201, 409]


def test_nor_if_many_are_made_at_once(alice, monkeypatch):
    monkeypatch.setattr(api_keys, "MAX_LIVE_KEYS", 2)

    def attempt(_number):
        try:
            make(alice)
        except ApiError as error:
            return error.error_code
        finally:
            connection.close()
        return None

    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(attempt, range(6)))
    assert sorted(map(str, outcomes)) == ["None"] * 2 + [ErrorCode.TOO_MANY_API_KEYS] * 4
    assert ApiKey.objects.count() == 2


def test_who_may_do_what(api, alice, bob, admin):
    key = make(alice)[0]
    path = f"{KEYS}/{key.id}"
    for method, where in (("get", KEYS), ("post", KEYS), ("delete", path)):
        problem_of(getattr(api(None), method)(where), ErrorCode.NOT_AUTHENTICATED)
    for person in (bob, admin):  # an administrator has the admin pages for that
        problem_of(api(person).delete(path), ErrorCode.NOT_FOUND)
    bob.groups.set([Role.objects.get(name=Role.VIEWER)])
    for method, where in (("get", KEYS), ("post", KEYS), ("delete", path)):
        answer = getattr(api(bob), method)(where)
        assert (answer.status_code, answer.json()["permission"]) == (403, MANAGE)
    assert api(alice).delete(path).status_code == 204


def test_a_key_makes_shows_and_revokes_no_keys(alice):
    key, raw = make(alice, MANAGE, READ)
    client = with_key(raw)
    problem_of(client.get(KEYS), ErrorCode.DEVICE_SESSION_REQUIRED)
    problem_of(client.post(KEYS, body()), ErrorCode.DEVICE_SESSION_REQUIRED)
    problem_of(client.delete(f"{KEYS}/{key.id}"), ErrorCode.DEVICE_SESSION_REQUIRED)
    assert ApiKey.objects.get().revoked_at is None


def test_a_key_cannot_log_out_or_refresh(api, alice):
    raw = make(alice)[1]
    problem_of(with_key(raw).post("/api/v2/auth/logout"), ErrorCode.DEVICE_SESSION_REQUIRED)
    problem_of(api(None).post("/api/v2/auth/refresh", {"refresh": raw}), ErrorCode.TOKEN_INVALID)


# --- what a key may do -----------------------------------------------------------------------------------------------


def test_a_key_opens_what_its_scopes_name_and_nothing_else(alice):
    client = with_key(make(alice, READ)[1])
    assert client.get(ME).json()["username"] == "alice"
    assert client.get(COMMANDS).status_code == 200
    answer = client.post(COMMANDS, {"text": "echo hello"})
    assert (answer.status_code, answer.json()["permission"]) == (403, SUBMIT)


def test_the_scopes_of_an_administrator_narrow_too(admin):
    sign_in = sign_in_by_token(make(admin, READ)[1])
    assert sign_in.permissions == {READ}
    assert with_key(make(admin, READ)[1]).get("/api/v2/users").status_code == 403


def test_a_key_can_never_do_more_than_its_user(alice):
    raw = make(alice, READ, SUBMIT)[1]
    client = with_key(raw)
    assert client.get(COMMANDS).status_code == 200
    alice.groups.set([Role.objects.get(name=Role.VIEWER)])
    assert client.post(COMMANDS, {"text": "echo hello"}).status_code == 403
    alice.groups.clear()
    assert client.get(COMMANDS).status_code == 403
    alice.groups.set([Role.objects.get(name=Role.OPERATOR)])
    assert client.get(COMMANDS).status_code == 200


@pytest.mark.parametrize("who", ["alice", "admin"])
def test_a_rule_that_asks_for_a_permission_asks_the_key_for_it(request, who):
    """Even if its user has it."""
    user = request.getfixturevalue(who)
    narrow, wide = (with_key(make(user, *scopes)[1]) for scopes in ([READ], [READ, SUBMIT]))
    RouteRule.objects.create(method="GET", route="commands", permission=SUBMIT, reason="x")
    assert (narrow.get(COMMANDS).status_code, wide.get(COMMANDS).status_code) == (403, 200)


def test_what_a_user_has_to_do_first_their_keys_wait_for(alice):
    client = with_key(make(alice)[1])
    alice.must_change_password = True
    alice.save()
    problem_of(client.get(COMMANDS), ErrorCode.PASSWORD_CHANGE_REQUIRED)


def test_the_last_use_is_recorded(api, alice):
    key, raw = make(alice)
    with_key(raw).get(ME, REMOTE_ADDR="192.0.2.7")
    [row] = api(alice).get(KEYS).json()["results"]
    assert row["last_used_address"] == "192.0.2.7"
    assert row["last_used_at"] is not None
    key.refresh_from_db()
    assert key.last_used_at >= key.created_at


def test_a_key_that_is_known_costs_no_query(alice, django_assert_num_queries):
    client = with_key(make(alice)[1])
    assert client.get(ME).status_code == 200
    with django_assert_num_queries(0):
        assert client.get(ME).status_code == 200


# --- its end ---------------------------------------------------------------------------------------------------------


def test_a_key_that_is_revoked_is_refused_at_once_and_stays_in_the_list(api, alice):
    key, raw = make(alice)
    machine, person = with_key(raw), api(alice)
    for _ in range(2):
        assert machine.get(ME).status_code == 200
    for _ in range(2):  # twice is no error
        assert person.delete(f"{KEYS}/{key.id}").status_code == 204
        problem_of(machine.get(ME), ErrorCode.SESSION_ENDED)
    [row] = person.get(KEYS).json()["results"]
    assert row["revoked_at"] is not None
    assert list(AuditEntry.objects.filter(action="api_key_revoked").values_list("target_id", flat=True)) == [
        str(key.id)
    ]


@pytest.mark.parametrize("unknown", [new_id(), "x", "0"])
def test_a_key_that_never_was_cannot_be_revoked(api, alice, unknown):
    problem_of(api(alice).delete(f"{KEYS}/{unknown}"), ErrorCode.NOT_FOUND)


def test_the_keys_of_a_user_who_is_deactivated_stop(alice):
    client = with_key(make(alice)[1])
    assert client.get(ME).status_code == 200
    alice.is_active = False
    alice.save()
    problem_of(client.get(ME), ErrorCode.SESSION_ENDED)


def test_the_keys_of_a_user_who_is_deleted_stop(alice):
    client = with_key(make(alice)[1])
    assert client.get(ME).status_code == 200
    alice.delete()
    problem_of(client.get(ME), ErrorCode.TOKEN_INVALID)


def test_a_key_ends_when_it_says(alice, monkeypatch):
    key, raw = make(alice, READ, seconds=60)
    client = with_key(raw)
    assert client.get(ME).status_code == 200  # and is remembered from now on
    assert sign_in_by_token(raw).expires_at == key.expires_at
    now = timezone.now
    monkeypatch.setattr(timezone, "now", lambda: now() + timedelta(seconds=61))
    problem_of(client.get(ME), ErrorCode.SESSION_ENDED)


@pytest.mark.parametrize(
    "change", [{"revoked_at": timezone.now()}, {"expires_at": timezone.now()}, {"scopes": ["accounts.view_user"]}]
)
def test_a_change_in_the_admin_is_felt_at_once(alice, change):
    key, raw = make(alice)
    client = with_key(raw)
    assert client.get(COMMANDS).status_code == 200
    for field, value in change.items():
        setattr(key, field, value)
    key.save()
    assert client.get(COMMANDS).status_code in (401, 403)


# --- attacks ---------------------------------------------------------------------------------------------------------


def test_what_is_not_the_key_is_refused_and_does_not_count_as_its_use(alice, bob):
    (key, raw), (other, other_raw) = make(alice), make(bob)
    secret, other_secret = raw.split("_", 2)[2], other_raw.split("_", 2)[2]
    wrong = [
        "altlas_",
        "altlas__",
        "altlas_x_y",
        f"altlas_{key.id.hex}",
        f"altlas_{key.id.hex}_",
        f"altlas_{key.id.hex}_{other_secret}",
        f"altlas_{other.id.hex}_{secret}",
        f"altlas_{new_id().hex}_{secret}",
        f"altlas_{key.id}_{secret}",  # the id written in another way
        f"altlas_{key.id.hex.upper()}_{secret}",
        f"altlas_{{{key.id.hex}}}_{secret}",
        f"ALTLAS_{key.id.hex}_{secret}",
        f"altlas_{key.id.hex}_{key.key_sha256}",
        key.key_sha256,
        raw[:-1],
        raw + "A",
        raw.swapcase(),
        raw.replace("_", "-"),
        raw + "A" * 100_000,
        "altlas_" + "A" * 100_000,
        raw + "\0",
        "\0" + raw,
        raw + "\ud800",
        f"altlas_{key.id.hex}_\udfff\ud800",
        "altlas_\ud800_x",
        raw + "ı",
        f" {raw}",
    ]
    for attempt in (*wrong, *wrong):
        with pytest.raises(ApiError) as caught:
            sign_in_by_token(attempt)
        assert caught.value.error_code == ErrorCode.TOKEN_INVALID, attempt
    assert ApiKey.objects.filter(last_used_at=None).count() == 2
    sign_in_by_token(raw)
    for attempt in wrong:  # now that the key is remembered
        with pytest.raises(ApiError) as caught:
            sign_in_by_token(attempt)
        assert caught.value.error_code == ErrorCode.TOKEN_INVALID, attempt


def test_over_http_too(alice):
    key, raw = make(alice)
    for attempt in (
        raw[:-1],
        raw + "\x7f",
        f"altlas_{key.id.hex}_",
        f"altlas_{key.id.hex}_é",
        "altlas_" + "A" * 10_000,
    ):
        problem_of(with_key(attempt).get(ME), ErrorCode.TOKEN_INVALID)


def test_the_id_of_a_session_is_no_key(api, alice):
    api(alice)
    session = alice.device_sessions.get()
    for known in (False, True):
        if known:
            assert api(alice).get(ME).status_code == 200
        with pytest.raises(ApiError) as caught:
            sign_in_by_token(f"altlas_{session.id.hex}_x")
        assert caught.value.error_code == ErrorCode.TOKEN_INVALID
