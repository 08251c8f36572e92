from datetime import timedelta

import pytest
from django.utils import timezone
from django_redis import get_redis_connection
from redis.exceptions import ConnectionError as RedisConnectionError
from rest_framework_simplejwt.tokens import AccessToken
from websockets.exceptions import InvalidStatus

from accounts.models.sessions import SessionEnd
from accounts.services.sessions import session_end
from accounts.sign_in import sign_in_by_token
from accounts.tokens import tokens_of
from gateway.api.errors import ApiError
from notifications import consumers, tickets
from notifications.tests.conftest import make_command
from notifications.tickets import ticket_issue, ticket_redeem

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.security, pytest.mark.security_sessions]


# --- the three ways in -----------------------------------------------------------------------------------------------


def test_by_authorization_header(alice, sign_in, dial):
    session, tokens = sign_in(alice)
    assert dial(token=tokens.access).receive() == {
        "type": "ready",
        "payload": {
            "user": {"id": str(alice.id), "username": "alice"},
            "session_id": str(session.id),
            "heartbeat_seconds": 30,
            "resume": True,
        },
    }


def test_by_ticket_which_is_good_for_one_socket(alice, api, dial):
    ticket = api(alice).post("/api/v2/realtime/ticket").data["ticket"]
    assert dial(f"?ticket={ticket}").expect("ready")["user"]["username"] == "alice"
    second = dial(f"?ticket={ticket}")
    assert second.expect("error")["code"] == "token_invalid"
    assert second.close_code() == 4401


def test_by_first_frame(alice, sign_in, dial):
    client = dial()
    client.send("auth", {"token": sign_in(alice)[1].access}, frame_id="a1")
    answer = client.receive()
    assert (answer["type"], answer["id"]) == ("ready", "a1")


def test_who_does_not_sign_in_is_shown_out(dial, monkeypatch):
    monkeypatch.setattr(consumers, "SIGN_IN_SECONDS", 0.3)
    client = dial()
    assert client.ask("ping") == {"type": "pong"}
    assert client.close_code() == 4408


def test_a_stranger_gets_nothing(alice, dial):
    client = dial()
    room = f"command:{make_command(alice).id}"
    for frame in ("subscribe", "unsubscribe"):
        client.send(frame, {"rooms": [room]}, frame_id=3)
        answer = client.receive()
        assert (answer["type"], answer["id"], answer["payload"]["code"]) == ("error", 3, "not_authenticated")


# --- wrong credentials -----------------------------------------------------------------------------------------------


def _expired(session):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AccessToken, "lifetime", timedelta(seconds=-5))
        return tokens_of(session).access


def _wrong_tokens(session, tokens):
    return {
        "token_invalid": ["x", "a.b.c", tokens.refresh, tokens.access[:-2], "\ud800", "\0", "ı" * 1000],
        "token_expired": [_expired(session)],
    }


def test_a_wrong_token_in_the_first_frame(alice, sign_in, dial):
    for code, wrong in _wrong_tokens(*sign_in(alice)).items():
        for token in wrong:
            client = dial()
            client.send("auth", {"token": token}, frame_id=9)
            answer = client.receive()
            assert (answer["type"], answer["id"], answer["payload"]["code"]) == ("error", 9, code)
            assert client.close_code() == 4401


def test_a_wrong_token_in_the_header(dial):
    for header in ("Bearer", "Bearer ", "Bearer x", "bearer a.b.c", "Bearer x y"):
        client = dial(headers={"Authorization": header})
        assert client.expect("error")["code"] == "token_invalid"
        assert client.close_code() == 4401


def test_a_header_of_another_kind_leaves_the_first_frame(alice, sign_in, dial):
    client = dial(headers={"Authorization": "Basic YTpi"})
    assert client.ask("auth", {"token": sign_in(alice)[1].access})["type"] == "ready"


def test_a_token_of_a_session_that_has_ended(alice, sign_in, dial):
    session, tokens = sign_in(alice)
    session_end(session_id=session.id, actor=None, reason=SessionEnd.LOGOUT)
    client = dial(token=tokens.access)
    assert client.expect("error")["code"] == "session_ended"
    assert client.close_code() == 4401


def test_a_ticket_that_was_made_up(dial):
    for ticket in ("x", "%00%ff", "x" * 5000):
        client = dial(f"?ticket={ticket}")
        assert client.expect("error")["code"] == "token_invalid"
        assert client.close_code() == 4401


def test_a_ticket_cannot_be_guessed(alice, sign_in):
    entry = sign_in_by_token(sign_in(alice)[1].access)
    tickets_issued = {ticket_issue(entry).ticket for _ in range(100)}
    assert len(tickets_issued) == 100
    assert {len(ticket) for ticket in tickets_issued} == {43}  # 256 bits


def test_a_ticket_lasts_30_seconds(alice, sign_in):
    ticket = ticket_issue(sign_in_by_token(sign_in(alice)[1].access)).ticket
    assert 29_000 < get_redis_connection("default").pttl(tickets._key(ticket)) <= 30_000


def test_a_ticket_is_worth_no_more_than_its_session_and_its_token(alice, sign_in, monkeypatch):
    session, tokens = sign_in(alice)
    entry = sign_in_by_token(tokens.access)
    late, ended = ticket_issue(entry), ticket_issue(entry)
    with monkeypatch.context() as patch:
        patch.setattr(tickets.timezone, "now", lambda: entry.expires_at + timedelta(seconds=1))
        with pytest.raises(ApiError) as caught:
            ticket_redeem(late.ticket)
    assert caught.value.error_code == "token_expired"
    session_end(session_id=session.id, actor=None, reason=SessionEnd.LOGOUT)
    with pytest.raises(ApiError) as caught:
        ticket_redeem(ended.ticket)
    assert caught.value.error_code == "session_ended"


# --- staying, and the end --------------------------------------------------------------------------------------------


def test_the_socket_closes_when_the_token_expires_unless_there_is_a_fresh_one(alice, sign_in, dial, monkeypatch):
    session, tokens = sign_in(alice)
    monkeypatch.setattr(AccessToken, "lifetime", timedelta(seconds=2))
    short = tokens_of(session)
    left, stays = dial(token=short.access), dial(token=short.access)
    left.expect("ready")
    stays.expect("ready")
    assert stays.ask("auth", {"token": tokens.access})["type"] == "ready"
    assert left.close_code() == 4401
    assert timezone.now() >= short.access_expires_at
    assert stays.ask("ping") == {"type": "pong"}


def test_a_wrong_token_later_changes_nothing(alice, sign_in, dial):
    client = dial(token=sign_in(alice)[1].access)
    client.expect("ready")
    answer = client.ask("auth", {"token": "x"})
    assert (answer["type"], answer["payload"]["code"]) == ("error", "token_invalid")
    assert client.subscribe(make_command(alice))["denied"] == []


def test_a_socket_stays_one_persons(alice, bob, sign_in, dial_as):
    client = dial_as(alice)
    assert client.ask("auth", {"token": sign_in(bob)[1].access})["payload"]["code"] == "permission_denied"
    assert client.close_code() == 4403


def test_signing_out_closes_the_sockets_of_that_session_at_once(alice, api, sign_in, dial):
    tokens = sign_in(alice)[1]
    first, second, other = (dial(token=token) for token in (tokens.access, tokens.access, sign_in(alice)[1].access))
    for client in (first, second, other):
        client.expect("ready")
    client = api(None)
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {tokens.access}")
    assert client.post("/api/v2/auth/logout").status_code == 204
    assert first.close_code() == second.close_code() == 4401
    assert other.ask("ping") == {"type": "pong"}


def test_a_socket_belongs_to_the_session_that_it_signed_in_with_last(alice, sign_in, dial):
    (before, old), (after, new) = sign_in(alice), sign_in(alice)
    client = dial(token=old.access)
    client.expect("ready")
    assert client.ask("auth", {"token": new.access})["payload"]["session_id"] == str(after.id)
    session_end(session_id=before.id, actor=None, reason=SessionEnd.LOGOUT)
    assert client.ask("ping") == {"type": "pong"}
    session_end(session_id=after.id, actor=None, reason=SessionEnd.LOGOUT)
    assert client.close_code() == 4401


def test_the_end_of_a_session_is_noticed_even_if_nobody_tells(alice, sign_in, dial, unheard, monkeypatch):
    monkeypatch.setattr(consumers, "CHECK_SECONDS", 0.1)
    session, tokens = sign_in(alice)
    client = dial(token=tokens.access)
    client.expect("ready")
    session_end(session_id=session.id, actor=None, reason=SessionEnd.LOGOUT)
    assert client.close_code() == 4401


# --- the ticket's endpoint -------------------------------------------------------------------------------------------


def test_a_ticket_comes_with_the_address_to_use_it_at(alice, api):
    answer = api(alice).post("/api/v2/realtime/ticket")
    assert answer.status_code == 201
    assert answer.data["url"] == f"ws://testserver/ws?ticket={answer.data['ticket']}"
    assert answer.data["expires_at"].startswith("20")


def test_a_stranger_gets_no_ticket(db, api):
    answer = api(None).post("/api/v2/realtime/ticket")
    assert (answer.status_code, answer.json()["code"]) == (401, "not_authenticated")


def test_without_redis_there_is_no_ticket(alice, api, monkeypatch):
    def fail(alias):
        raise RedisConnectionError

    monkeypatch.setattr(tickets, "get_redis_connection", fail)
    answer = api(alice).post("/api/v2/realtime/ticket")
    assert (answer.status_code, answer.json()["code"]) == (503, "service_unavailable")
    assert answer["Content-Type"] == "application/problem+json"


# --- who may knock ---------------------------------------------------------------------------------------------------


OWN = ("http://127.0.0.1", "https://localhost:3000", "HTTP://LOCALHOST")
FOREIGN = (
    "http://evil.example",
    "http://localhost.evil.example",
    "http://localhost@evil.example",
    "null",
    "",
    "http://[::1",
    "ü",
)


def test_an_own_page_may_open_a_socket(dial):
    for origin in OWN:
        assert dial(headers={"Origin": origin}).ask("ping") == {"type": "pong"}


def test_a_foreign_page_may_not(dial):
    for origin in FOREIGN:
        with pytest.raises(InvalidStatus) as caught:
            dial(headers={"Origin": origin})
        assert caught.value.response.status_code == 403


def test_there_is_no_other_socket(dial):
    for path in ("/", "/ws/", "/ws/x", "/WS", "/api/v2/commands"):
        with pytest.raises(InvalidStatus) as caught:
            dial(path=path)
        assert caught.value.response.status_code == 403
