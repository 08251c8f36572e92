"""The short way answers what the view answers, and stores what it stores."""

import json

import pytest
from django.core.handlers.wsgi import WSGIHandler
from django.db import connection, transaction
from django.test import RequestFactory

from accounts.models import User
from accounts.tests.people import client_with_key
from commands import insertion
from commands.api import fast_lane
from commands.api.fast_lane import FastLaneMiddleware
from commands.models import Command, CommandEvent
from commands.services import command_store
from commands.tests.lane import COMMANDS, TEXT, path_of
from conftest import session_of
from gateway.api.errors import ErrorCode
from gateway.ids import new_id
from gateway.tests.expect import problem_of
from tests.rows import ended_command

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.security, pytest.mark.security_access]

LANE = "commands.api.fast_lane.FastLaneMiddleware"


@pytest.fixture
def passed_on(monkeypatch):
    """Return the requests that the short way passed on."""
    requests = []
    call = FastLaneMiddleware.__call__

    def spy(self, request):
        passing_on = self.get_response

        def get_response(request):
            requests.append(f"{request.method} {request.path}")
            return passing_on(request)

        self = FastLaneMiddleware(get_response)
        return call(self, request)

    monkeypatch.setattr(FastLaneMiddleware, "__call__", spy)
    return requests


@pytest.fixture
def answers_of_both(alice, settings):
    """Return a function that returns what the short way and the view answer to a request of alice's."""
    _session, tokens = session_of(alice)
    fast = WSGIHandler()
    settings.MIDDLEWARE = [name for name in settings.MIDDLEWARE if name != LANE]
    slow = WSGIHandler()

    def answer(handler, method, path, body, headers):
        meta = {"HTTP_AUTHORIZATION": f"Bearer {tokens.access}", "CONTENT_TYPE": "application/json"} | headers
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        meta = {"CONTENT_LENGTH": str(len(data)) if method == "POST" else "", "HTTP_X_REQUEST_ID": "x"} | meta
        request = RequestFactory().generic(method, path, data, **{name: value for name, value in meta.items() if value})
        started = []
        response = handler(request.environ, lambda status, headers: started.append((status, headers)))
        content = b"".join(response)
        response.close()
        return (*started[0], content)

    def both(method, path, body="", **headers):
        answer(slow, "GET", "/api/v2/me", b"", {})  # who she is, is known
        return answer(fast, method, path, body, headers), answer(slow, method, path, body, headers)

    return both


# --- the same answer -------------------------------------------------------------------------------------------------


ORDINARY = {
    "nothing special": {},
    "turkish": {"HTTP_ACCEPT_LANGUAGE": "tr-TR,tr;q=0.9,en;q=0.8"},
    "a language that there is not": {"HTTP_ACCEPT_LANGUAGE": "xx"},
    "any type": {"HTTP_ACCEPT": "*/*"},
    "json": {"HTTP_ACCEPT": "application/json"},
    "as axios asks": {"HTTP_ACCEPT": "application/json, text/plain, */*"},
    "another etag": {"HTTP_IF_NONE_MATCH": '"x"'},
    "any etag": {"HTTP_IF_NONE_MATCH": "*"},
    "a state that is not": {"HTTP_IF_MATCH": '"x"'},
    "since long ago": {"HTTP_IF_MODIFIED_SINCE": "Mon, 23 Nov 2020 10:00:00 GMT"},
    "not since long ago": {"HTTP_IF_UNMODIFIED_SINCE": "Mon, 23 Nov 2020 10:00:00 GMT"},
    "a range": {"HTTP_RANGE": "bytes=0-3"},
}
SPECIAL = {
    "indented": {"HTTP_ACCEPT": "application/json; indent=4"},
    "html": {"HTTP_ACCEPT": "text/html"},
    "a query": {"QUERY_STRING": "x=1"},
    "a cookie": {"HTTP_COOKIE": "django_language=tr"},
    "a key": {"HTTP_IDEMPOTENCY_KEY": "1"},
    "an empty key": {"HTTP_IDEMPOTENCY_KEY": " "},
    "no token": {"HTTP_AUTHORIZATION": ""},
    "another scheme": {"HTTP_AUTHORIZATION": "Basic YTpi"},
    "a bad token": {"HTTP_AUTHORIZATION": "Bearer x.y.z"},
    "two tokens": {"HTTP_AUTHORIZATION": "Bearer a b"},
    "another host": {"HTTP_HOST": "evil.example.com"},
}


def _failed(alice):
    command = ended_command(alice)
    changes = {"status": "failed", "error_code": "runner_timeout", "error_stage": "runner", "error_cause": "x"}
    Command.objects.filter(id=command.id).update(**changes)
    return command


COMMANDS_OF = {
    "completed": ended_command,
    "failed": _failed,
    "queued": lambda alice: command_store(Command(user=alice, text="echo a")),
}


@pytest.mark.parametrize("state", COMMANDS_OF)
@pytest.mark.parametrize("how", ORDINARY)
def test_a_command_is_shown_the_same_byte_for_byte(alice, answers_of_both, passed_on, state, how):
    command = COMMANDS_OF[state](alice)
    for _ in range(2):  # then it is kept
        fast, slow = answers_of_both("GET", path_of(command), **ORDINARY[how])
        assert fast == slow
    assert not passed_on


def test_an_etag_that_matches_gets_the_same_304(alice, answers_of_both, passed_on):
    command = ended_command(alice)
    (_status, headers, _content), _slow = answers_of_both("GET", path_of(command))
    fast, slow = answers_of_both("GET", path_of(command), HTTP_IF_NONE_MATCH=dict(headers)["ETag"])
    assert fast == slow
    assert fast[0] == "304 Not Modified"
    assert not passed_on


@pytest.mark.parametrize("how", SPECIAL)
def test_what_is_special_is_for_the_view(alice, answers_of_both, passed_on, how):
    command = ended_command(alice)
    fast, slow = answers_of_both("GET", path_of(command), **SPECIAL[how])
    assert fast == slow
    assert passed_on == [f"GET {path_of(command)}"]


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "PUT", "DELETE"])
def test_so_are_other_methods(alice, answers_of_both, method):
    fast, slow = answers_of_both(method, path_of(ended_command(alice)))
    assert fast == slow


def test_so_is_what_is_not_there(alice, bob, answers_of_both):
    for path in (f"{COMMANDS}/{new_id()}", path_of(ended_command(bob)), f"{COMMANDS}/x", f"{COMMANDS}x"):
        fast, slow = answers_of_both("GET", path)
        assert fast == slow
        assert fast[0] == "404 Not Found"


def without_what_differs(answer):
    """Two commands differ by their id, and by when they were sent."""
    status, headers, content = answer
    shown = json.loads(content)
    if "id" in shown:
        content = content.replace(shown["id"].encode(), b"id").replace(shown["created_at"].encode(), b"at")
        headers = [(name, value.replace(shown["id"], "id")) for name, value in headers]
        headers = [pair for pair in headers if pair[0] != "Content-Length"]  # of a time without microseconds
    return status, headers, content


GOOD = [
    TEXT,
    {"text": "x", "mode": "chaos", "persona": "a_b", "priority": "high"},
    {"text": " x ", "tags": ["a", "ş"], "metadata": {"a": 1, "b": None, "c": True, "d": "é"}, "parameters": {}},
]
FOR_THE_VIEW = [
    {},
    [],
    {"text": ""},
    {"text": " "},
    {"text": 1},
    {"text": "a\0b"},
    {"text": "x" * 10_001},
    {"text": "x", "mode": "wild"},
    {"text": "x", "mode": None},
    {"text": "x", "priority": ["high"]},
    {"text": "x", "persona": "A B"},
    {"text": "x", "unknown": 1},
    {"text": "x", "tags": ["a", "a"]},
    {"text": "x", "tags": "a"},
    {"text": "x", "target": "nobody"},
    {"text": "x", "chaos_level": 3},
    {"text": "x", "deadline": "2020-01-01T00:00:00Z"},
    b'{"text": "\\ud800"}',
    b'{"text": NaN}',
    b"{",
    b"\xff",
    b"[" * 100_000,
]


@pytest.mark.parametrize("body", GOOD)
@pytest.mark.parametrize("language", ["en", "tr"])
def test_a_command_is_taken_the_same(alice, answers_of_both, passed_on, body, language):
    fast, slow = answers_of_both("POST", COMMANDS, body, HTTP_ACCEPT_LANGUAGE=language)
    assert without_what_differs(fast) == without_what_differs(slow)
    assert fast[0] == "201 Created"
    assert not passed_on
    rows = [
        {name: value for name, value in row.items() if name not in ("id", "created_at", "due_at", "turn_at")}
        for row in Command.objects.filter(user=alice).values()
    ]
    assert len(rows) == 2
    assert rows[0] == rows[1]


@pytest.mark.parametrize("body", FOR_THE_VIEW)
def test_what_is_not_plainly_good_is_for_the_view(answers_of_both, passed_on, body):
    fast, slow = answers_of_both("POST", COMMANDS, body)
    assert fast == slow
    assert fast[0].startswith("4")
    assert passed_on == [f"POST {COMMANDS}"]
    assert not Command.objects.exists()


@pytest.mark.parametrize("how", ["text/plain", "application/json; charset=utf-16", ""])
def test_so_is_another_type(answers_of_both, passed_on, how):
    fast, slow = answers_of_both("POST", COMMANDS, TEXT, CONTENT_TYPE=how)
    assert without_what_differs(fast) == without_what_differs(slow)
    assert passed_on == [f"POST {COMMANDS}"]


# --- nobody gets more ------------------------------------------------------------------------------------------------


def test_an_api_key_goes_the_long_way(alice, passed_on):
    client, command = client_with_key(alice, "commands.read_own_command"), ended_command(alice)
    assert client.get(path_of(command)).status_code == 200
    assert passed_on == [f"GET {path_of(command)}"]


# --- what is stored --------------------------------------------------------------------------------------------------


def stored(model, **which):
    moments = ("id", "command_id", "created_at", "due_at", "turn_at", "at", "broadcast_at")
    return {name: value for name, value in model.objects.filter(**which).values().get().items() if name not in moments}


@pytest.mark.parametrize("limit", [0, 20])
def test_one_statement_stores_what_saving_the_rows_would(alice, monkeypatch, limit):
    monkeypatch.setattr(insertion, "limit_of", lambda _user: limit)
    monkeypatch.setattr("commands.limits.limit_of", lambda _user: limit)
    values = {"text": "ş'\"%s", "tags": ["a"], "metadata": {"a": [1, {"b": "\\"}]}, "priority": "high"}
    at_once = command_store(Command(user=alice, **values))
    with transaction.atomic():
        saved = command_store(Command(user=alice, **values))
    assert stored(Command, id=at_once.id) == stored(Command, id=saved.id)
    assert stored(CommandEvent, command_id=at_once.id) == stored(CommandEvent, command_id=saved.id)
    assert at_once.held is saved.held is (limit == 0)
    assert at_once.events.get().pk == CommandEvent.objects.get(command=at_once).pk
    at_once.refresh_from_db()
    assert not at_once._state.adding


def test_who_was_deleted_meanwhile_is_told_as_ever(alice, alice_client, monkeypatch):
    store = command_store

    def too_late(command):
        User.objects.filter(pk=alice.pk).delete()
        return store(command)

    monkeypatch.setattr(fast_lane, "command_store", too_late)
    problem_of(alice_client.post(COMMANDS, TEXT, format="json"), ErrorCode.SESSION_ENDED)
    assert not Command.objects.exists()


@pytest.mark.skipif(connection.vendor != "postgresql", reason="elsewhere it is several statements")
def test_a_command_is_one_round_trip_to_the_database(alice_client, monkeypatch, django_assert_num_queries):
    monkeypatch.setattr(insertion, "limit_of", lambda _user: 20)  # it is remembered for a while
    monkeypatch.setattr("commands.transitions.event_broadcast_on_commit", lambda _event: None)  # done by a thread
    with django_assert_num_queries(1):
        assert alice_client.post(COMMANDS, TEXT, format="json").status_code == 201
