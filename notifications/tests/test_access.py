"""A socket that is open lets nobody do what they may not do any more."""

from datetime import timedelta

import pytest
from django.utils import timezone
from django_otp.plugins.otp_totp.models import TOTPDevice

from accounts.models import ApiKey, Role, RouteRule, User
from accounts.models.sessions import SessionEnd
from accounts.services.api_keys import api_key_create, api_key_revoke
from accounts.services.passwords import password_set
from accounts.services.sessions import session_end
from notifications import consumers
from notifications.tests.conftest import make_command, wait_until

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.security, pytest.mark.security_access]

READ = "commands.read_own_command"


@pytest.fixture(autouse=True)
def _no_hurry(monkeypatch):
    """What is noticed here is noticed because somebody told, and not by the look of every few seconds."""
    monkeypatch.setattr(consumers, "CHECK_SECONDS", 600)
    monkeypatch.setattr(consumers, "SPREAD_SECONDS", 0.05)


def farewell(client):
    """Return the code of the error that the server takes leave with, and that of the close."""
    return client.expect("error")["code"], client.close_code()


def viewer():
    return Role.objects.get(name=Role.VIEWER)


def key_of(user, *scopes, **delta):
    expires_at = timezone.now() + timedelta(**(delta or {"days": 1}))
    return api_key_create(actor=user, name="robot", scopes=scopes or [READ], expires_at=expires_at)


# --- what changes for one person -------------------------------------------------------------------------------------


def _deactivate(alice):
    alice.is_active = False
    alice.save()


def _delete(alice):
    alice.delete()


def _password(alice):
    password_set(actor=alice, user=alice, password="another long passphrase")


@pytest.mark.parametrize("end", [_deactivate, _delete, _password])
def test_who_may_not_sign_in_any_more_is_shown_out(alice, bob, dial_as, end):
    first, second, other = dial_as(alice), dial_as(alice), dial_as(bob)
    end(alice)
    assert first.close_code() == second.close_code() == 4401
    other.assert_nothing_more()


def test_who_changes_the_password_stays_on_this_device(alice, sign_in, dial):
    (here, tokens), (_there, other_tokens) = sign_in(alice), sign_in(alice)
    stays, goes = dial(token=tokens.access), dial(token=other_tokens.access)
    for client in (stays, goes):
        client.expect("ready")
    password_set(actor=alice, user=alice, password="another long passphrase", keep_session=here.id)
    assert goes.close_code() == 4401
    stays.assert_nothing_more()


def test_who_loses_the_permission_to_read_is_shown_out(alice, bob, dial_as):
    reads, waits, other = dial_as(alice), dial_as(alice), dial_as(bob)
    assert reads.subscribe(make_command(alice))["denied"] == []
    assert reads.events(1) == [1]
    alice.groups.clear()
    assert farewell(reads) == farewell(waits) == ("permission_denied", 4403)
    other.assert_nothing_more()


def test_a_change_that_takes_nothing_away_changes_nothing(alice, dial_as):
    client = dial_as(alice)
    command = make_command(alice)
    client.subscribe(command)
    assert client.events(1) == [1]
    alice.groups.set([viewer()])
    alice.first_name = "Alice"
    alice.save()
    client.assert_nothing_more()
    assert client.subscribe(command) == {"rooms": [f"command:{command.id}"], "denied": []}


def test_who_has_to_do_something_first_is_told_what(alice, dial_as):
    client = dial_as(alice)
    alice.must_change_password = True
    alice.save()
    assert farewell(client) == ("password_change_required", 4403)


# --- what changes for many -------------------------------------------------------------------------------------------


def _take_from_role():
    viewer().permissions.clear()


def _rule():
    RouteRule.objects.create(method="GET", route="command-events", permission="accounts.view_user", reason="x")


@pytest.mark.parametrize("change", [_take_from_role, _rule])
def test_a_role_or_rule_that_changes_is_felt_by_all_sockets(alice, bob, admin, dial_as, change):
    """A room tells what the route of the events tells."""
    concerned, stays = [dial_as(alice), dial_as(bob)], dial_as(admin)
    change()
    assert [farewell(client) for client in concerned] == [("permission_denied", 4403)] * 2
    stays.assert_nothing_more()


def test_a_role_that_now_requires_a_second_factor_is_felt_by_those_without(alice, bob, dial_as):
    without, with_one = dial_as(alice), dial_as(bob)
    TOTPDevice.objects.create(user=bob, confirmed=True)
    role = viewer()
    role.requires_second_factor = True
    role.save()
    assert farewell(without) == ("second_factor_setup_required", 4403)
    with_one.assert_nothing_more()


def test_sockets_do_not_all_look_at_once(alice, dial_as, monkeypatch):
    delays = []
    monkeypatch.setattr(consumers.random, "uniform", lambda low, high: delays.append((low, high)) or 0)
    clients = [dial_as(alice) for _ in range(3)]
    viewer().save()
    wait_until(lambda: len(delays) >= 3)
    assert set(delays) == {(0, 0.05)}
    for client in clients:
        client.assert_nothing_more()


# --- joining ---------------------------------------------------------------------------------------------------------


def test_who_may_not_read_comes_in_and_joins_nothing(alice, dial_as):
    alice.groups.clear()
    client = dial_as(alice)
    command = make_command(alice)
    room = f"command:{command.id}"
    for _ in range(2):
        assert client.subscribe(command) == {"rooms": [], "denied": [{"room": room, "code": "permission_denied"}]}
    alice.groups.set([viewer()])  # what is given is felt at once too
    assert client.subscribe(command)["rooms"] == [room]


def test_a_change_that_nobody_told_of_is_felt_when_joining(alice, dial_as, unheard):
    client = dial_as(alice)
    alice.groups.clear()
    client.send("subscribe", {"rooms": [f"command:{make_command(alice).id}"]})
    assert farewell(client) == ("permission_denied", 4403)


def test_a_session_that_ended_without_a_word_joins_nothing(alice, sign_in, dial, unheard):
    session, tokens = sign_in(alice)
    client = dial(token=tokens.access)
    client.expect("ready")
    session_end(session_id=session.id, actor=None, reason=SessionEnd.LOGOUT)
    client.send("subscribe", {"rooms": []})
    assert farewell(client) == ("session_ended", 4401)


def test_a_change_that_nobody_told_of_is_noticed_by_and_by(alice, dial_as, unheard, monkeypatch):
    monkeypatch.setattr(consumers, "CHECK_SECONDS", 0.1)
    client = dial_as(alice)
    alice.groups.clear()
    assert farewell(client) == ("permission_denied", 4403)


# --- coming in -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["header", "frame", "ticket"])
def test_who_has_to_do_something_first_gets_no_socket(alice, sign_in, dial, api, way):
    access = sign_in(alice)[1].access
    ticket = api(alice).post("/api/v2/realtime/ticket").data["ticket"]
    alice.must_change_password = True
    alice.save()
    if way == "frame":
        client = dial()
        client.send("auth", {"token": access})
    else:
        client = dial(token=access) if way == "header" else dial(f"?ticket={ticket}")
    assert farewell(client) == ("password_change_required", 4403)


def test_nor_a_ticket(alice, api):
    client = api(alice)
    alice.must_change_password = True
    alice.save()
    assert client.post("/api/v2/realtime/ticket").json()["code"] == "password_change_required"


def test_a_session_that_ends_while_it_signs_in_is_noticed(alice, sign_in, dial, monkeypatch):
    """After it was looked up, and before the socket could hear of it."""
    session, tokens = sign_in(alice)
    enter = consumers.GatewayConsumer._enter

    async def enter_late(self, group):
        if group.startswith("session."):
            end = consumers.database_sync_to_async(session_end)
            await end(session_id=session.id, actor=None, reason=SessionEnd.LOGOUT)
        await enter(self, group)

    monkeypatch.setattr(consumers.GatewayConsumer, "_enter", enter_late)
    client = dial(token=tokens.access)
    assert farewell(client) == ("session_ended", 4401)


def test_the_address_of_a_socket_is_known(alice, dial):
    key, raw = key_of(alice)
    dial(token=raw).expect("ready")
    key.refresh_from_db()
    assert key.last_used_address == "127.0.0.1"


# --- API keys --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["header", "frame", "ticket"])
def test_a_key_opens_a_socket_and_its_revocation_closes_it(alice, dial, api, way):
    key, raw = key_of(alice)
    other_raw = key_of(alice)[1]
    if way == "ticket":
        machine = api(None)
        machine.credentials(HTTP_AUTHORIZATION=f"Bearer {raw}")
        client = dial(f"?ticket={machine.post('/api/v2/realtime/ticket').data['ticket']}")
    else:
        client = dial(token=raw if way == "header" else "")
        if way == "frame":
            client.send("auth", {"token": raw})
    assert client.expect("ready")["session_id"] == str(key.id)
    assert client.subscribe(make_command(alice))["denied"] == []
    assert client.events(1) == [1]
    other = dial(token=other_raw)
    other.expect("ready")
    api_key_revoke(actor=alice, api_key=key)
    assert client.close_code() == 4401
    other.assert_nothing_more()


def test_a_key_without_the_scope_joins_nothing(alice, dial):
    client = dial(token=key_of(alice, "commands.submit_command")[1])
    client.expect("ready")
    assert client.subscribe(make_command(alice))["denied"][0]["code"] == "permission_denied"


def test_a_socket_closes_when_its_key_expires(alice, dial):
    key, raw = key_of(alice)
    ApiKey.objects.filter(id=key.id).update(expires_at=timezone.now() + timedelta(seconds=2))
    client = dial(token=raw)
    client.expect("ready")
    assert client.close_code() == 4401
    key.refresh_from_db()
    assert timezone.now() >= key.expires_at


def test_a_ticket_of_a_key_that_was_revoked_opens_nothing(alice, dial, api):
    key, raw = key_of(alice)
    machine = api(None)
    machine.credentials(HTTP_AUTHORIZATION=f"Bearer {raw}")
    ticket = machine.post("/api/v2/realtime/ticket").data["ticket"]
    api_key_revoke(actor=alice, api_key=key)
    assert farewell(dial(f"?ticket={ticket}")) == ("session_ended", 4401)


def test_a_narrower_key_cannot_take_over_a_socket_that_reads(alice, dial_as):
    client = dial_as(alice)
    client.subscribe(make_command(alice))
    assert client.events(1) == [1]
    client.send("auth", {"token": key_of(alice, "commands.submit_command")[1]})
    assert farewell(client) == ("permission_denied", 4403)


def test_a_wrong_key_opens_nothing(alice, bob, dial):
    (key, raw), (_other, other_raw) = key_of(alice), key_of(bob)
    mixed = raw[: raw.index(key.id.hex) + 33] + other_raw.split("_", 2)[2]
    for wrong in (mixed, raw[:-1], raw + "\ud800", raw + "\0", "altlas_", "altlas_\udfff_x"):
        client = dial()
        client.send("auth", {"token": wrong})
        assert farewell(client) == ("token_invalid", 4401)


def test_no_socket_is_left_to_a_user_who_is_gone(alice, dial_as, server):
    client = dial_as(alice)
    User.objects.filter(id=alice.id).delete()
    assert client.close_code() == 4401
    wait_until(lambda: not server.left_over())
