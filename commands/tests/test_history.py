"""The list of commands: what it can be asked for, whose it is, and its file."""

import csv
from datetime import datetime, timedelta

import pytest
from asgiref.sync import sync_to_async
from django.db import connection, connections
from django.test import AsyncClient
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.tests.people import person_with, role_with
from commands.models import Command, Mode
from commands.states import Stage, Status
from commands.tests.listing import COMMANDS, command, listed
from conftest import session_of
from gateway.api.errors import ErrorCode
from gateway.tests.expect import fields_of, problem_of

pytestmark = pytest.mark.django_db


# --- Filters --------------------------------------------------------------------------------------------------------


@pytest.fixture
def several(alice, bob, near):
    """What follows must be told apart, whoever it is that looks: the newest last."""
    command(alice, "one", mode=Mode.NORMAL, persona="poet", tags=["a"], status=Status.FAILED)
    command(alice, "two", mode=Mode.CHAOS, persona="poet", tags=["a", "b"])
    command(alice, "three", mode=Mode.DREAM, tags=["b", "a,b"], status=Status.QUEUED)
    command(alice, "four", mode=Mode.CHAOS, tags=["A"], status=Status.CANCELLED)
    command(alice, "five", mode=Mode.NORMAL, tags=[])
    command(alice, "a step", only_stage=Stage.RUNNER, stage=Stage.RUNNER)
    command(bob, "two", mode=Mode.CHAOS, persona="poet", tags=["a", "b"])


@pytest.mark.parametrize(
    ("query", "texts"),
    [
        ({}, ["five", "four", "three", "two", "one"]),
        ({"ordering": "created_at"}, ["one", "two", "three", "four", "five"]),
        ({"status": "failed"}, ["one"]),
        ({"status": "failed,queued"}, ["three", "one"]),
        ({"status": ["failed", "queued"]}, ["three", "one"]),
        ({"mode": "chaos,dream"}, ["four", "three", "two"]),
        ({"mode": "chaos", "ordering": "created_at"}, ["two", "four"]),
        ({"persona": "poet"}, ["two", "one"]),
        ({"tag": "a"}, ["two", "one"]),
        ({"tag": ["a", "b"]}, ["two"]),
        ({"tag": "a,b"}, ["three"]),
        ({"tag": "A"}, ["four"]),
        ({"tag": "c"}, []),
        ({"mode": "chaos", "status": "completed", "tag": "b", "persona": "poet", "q": "TWO"}, ["two"]),
    ],
)
def test_a_list_holds_what_all_filters_let_through(api, alice, several, query, texts):
    assert listed(api(alice), **query) == texts


def test_a_list_is_of_the_time_asked_for(api, alice):
    old, middle, new = (command(alice, text) for text in ("old", "middle", "new"))
    client = api(alice)

    def times(after=None, before=None):
        given = {"created_after": after, "created_before": before}
        return listed(client, **{name: each.isoformat() for name, each in given.items() if each})

    assert times(after=middle.created_at) == ["new", "middle"]
    assert times(before=middle.created_at) == ["old"]
    assert times(after=old.created_at, before=new.created_at) == ["middle", "old"]
    assert times(before=old.created_at - timedelta(days=1)) == []
    hours = timezone.get_fixed_timezone(180)
    assert times(after=new.created_at.astimezone(hours)) == ["new"]


@pytest.mark.parametrize(
    ("query", "errors"),
    [
        ({"status": "done"}, {"status": "invalid_choice"}),
        ({"mode": "calm"}, {"mode": "invalid_choice"}),
        ({"persona": "No one"}, {"persona": "invalid"}),
        ({"tag": ["a", "a"]}, {"tag": "invalid"}),
        ({"tag": "x" * 51}, {"tag.0": "max_length"}),
        ({"tag": [str(number) for number in range(21)]}, {"tag": "max_length"}),
        ({"q": "ab"}, {"q": "invalid"}),
        ({"q": "a b! c_d"}, {"q": "invalid"}),
        ({"q": "x" * 101}, {"q": "max_length"}),
        ({"q": "abc\0"}, {"q": "null_characters_not_allowed"}),
        ({"user": "alice"}, {"user": "invalid"}),
        ({"ordering": "text"}, {"ordering": "invalid_choice"}),
        ({"created_after": "yesterday"}, {"created_after": "invalid"}),
        ({"created_after": "2026-11-24"}, {"created_after": "invalid"}),
        ({"created_after": "2026-11-24T10:00:00"}, {"created_after": "invalid"}),
        ({"created_after": "2026-02-31T10:00:00Z"}, {"created_after": "invalid"}),
        ({"created_before": "2026-11-24T10:00:00 03:00"}, {"created_before": "invalid"}),
        ({"created_before": "0001-01-01T00:00:00+03:00"}, {"created_before": "invalid"}),
        ({"created_after": "9999-12-31T23:59:59-03:00"}, {"created_after": "invalid"}),
        (
            {"created_after": "2026-11-24T10:00:00Z", "created_before": "2026-11-24T13:00:00+03:00"},
            {"created_before": "invalid"},
        ),
        ({"q": ["abc", "abd"]}, {"q": "repeated"}),
        ({"text": "abc"}, {"text": "unknown_field"}),
    ],
)
def test_what_cannot_be_asked_for_is_named(api, alice, query, errors):
    assert fields_of(api(alice).get(COMMANDS, query)) == errors


@pytest.mark.parametrize("moment", ["1971-01-01T00:00:00+03:00", "9998-12-31T23:59:59-03:00", "2026-11-24t10:00:00.5z"])
@pytest.mark.parametrize("name", ["created_after", "created_before"])
def test_any_time_that_there_is_can_be_asked_for(api, alice, name, moment):
    assert listed(api(alice), **{name: moment}) == []


# --- Text search ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("looked_for", "text"),
    [
        ("istanbul", "İSTANBUL şubesi"),
        ("İSTANBUL", "istanbul"),
        ("ISPARTA", "ısparta"),
        ("ısparta", "Isparta"),
        ("dunya", "merhaba DÜNYA"),
        ("çağrı", "CAGRI"),
        ("ğüşöç", "ĞÜŞÖÇ"),
        ("lo wor", "Hello World"),
        ("100%", "echo 100% sure"),
        ("a_bcd", "x a_bcd"),
        ("O'Neill\\", "the O'Neill\\ file"),
        ("été", "ÉTÉ"),
        ("cıkıs göz", "ÇIKIŞ GOZ"),
        ("çok", "çok" + " uzun" * 1990),
    ],
)
def test_a_text_is_found_however_it_is_written(api, alice, near, looked_for, text):
    command(alice, text)
    command(alice, text, status=Status.RUNNING)
    for _ in range(4):
        command(alice, "nothing of that, 100 aXbcd")
    assert listed(api(alice), q=looked_for) == [text, text]


@pytest.mark.parametrize("looked_for", ["100%d", "a_bcd", "%%%abc", "hello world"])
def test_what_is_not_in_the_text_is_not_found(api, alice, near, looked_for):
    for _ in range(5):
        command(alice, "echo 100 bad; aXbcd abc; hello  world")
    assert listed(api(alice), q=looked_for) == []


# --- Whose ----------------------------------------------------------------------------------------------------------


def test_only_who_may_see_all_commands_sees_those_of_another(api, alice, bob, admin):
    command(alice, "hers")
    command(bob, "his")
    clerk = person_with("clerk")
    clerk.groups.add(role_with("clerks", "commands.read_own_command", "commands.view_command"))
    for person in (admin, clerk):
        assert listed(api(person), user=str(alice.pk)) == ["hers"]
        assert listed(api(person)) == []
    answer = api(bob).get(COMMANDS, {"user": str(alice.pk)})
    assert answer.status_code == 403
    assert answer.json()["code"] == ErrorCode.PERMISSION_DENIED
    assert answer.json()["permission"] == "commands.view_command"
    assert listed(api(bob), user=str(bob.pk)) == ["his"]
    problem_of(api(None).get(COMMANDS, {"user": str(alice.pk)}), ErrorCode.NOT_AUTHENTICATED)


@pytest.mark.parametrize("path", [COMMANDS, f"{COMMANDS}/stats"])
@pytest.mark.parametrize("written", ["{%s}", "urn:uuid:%s", " %s", "hex", "wide", "me", "%s,all"])
def test_the_id_of_a_user_is_taken_as_it_is_shown_only(api, admin, path, written):
    ways = {"hex": admin.pk.hex, "wide": "\uff11" * 32}
    answer = api(admin).get(path, {"user": ways.get(written) or written.replace("%s", str(admin.pk))})
    assert fields_of(answer) == {"user": "invalid"}


def test_who_may_see_all_commands_in_a_list_still_gets_only_own_ones_by_id(api, alice, admin):
    problem_of(api(admin).get(f"{COMMANDS}/{command(alice).id}"), ErrorCode.NOT_FOUND)


# --- CSV ------------------------------------------------------------------------------------------------------------


def exported(client, **query):
    answer = client.get(COMMANDS, query, HTTP_ACCEPT="text/csv")
    assert (answer.status_code, answer["Content-Type"]) == (200, "text/csv; charset=utf-8")
    assert answer["Content-Disposition"] == f'attachment; filename="commands-{timezone.now():%Y-%m-%d}.csv"'
    return list(csv.DictReader(answer.getvalue().decode().splitlines(keepends=True)))


def test_the_same_list_comes_as_a_file(api, alice, several):
    client = api(alice)
    rows = exported(client)
    assert [row["text"] for row in rows] == listed(client)
    two = Command.objects.get(user=alice, text="two")
    row = next(row for row in rows if row["text"] == "two")
    assert (row["id"], row["user_id"], row["mode"], row["tags"]) == (str(two.id), str(alice.pk), "chaos", '["a", "b"]')
    assert datetime.fromisoformat(row["created_at"]) == two.created_at
    assert [row["text"] for row in exported(client, status="failed,queued", ordering="created_at")] == ["one", "three"]
    assert exported(client, q="nowhere") == []


def test_a_file_is_only_for_whom_the_list_is_and_its_errors_are_problems(api, alice, bob, admin):
    command(alice, "hers")
    assert [row["text"] for row in exported(api(admin), user=str(alice.pk))] == ["hers"]
    assert exported(api(bob)) == []
    refused = api(bob).get(COMMANDS, {"user": str(alice.pk)}, HTTP_ACCEPT="text/csv")
    assert (refused.status_code, refused["Content-Type"]) == (403, "application/problem+json")
    client = api(alice)
    for query, errors in (({"q": "a"}, {"q": "invalid"}), ({"limit": 5}, {"limit": "invalid"})):
        assert fields_of(client.get(COMMANDS, query, HTTP_ACCEPT="text/csv")) == errors
    problem_of(api(None).get(COMMANDS, HTTP_ACCEPT="text/csv"), ErrorCode.NOT_AUTHENTICATED)
    problem_of(client.post(COMMANDS, {"text": "x"}, HTTP_ACCEPT="text/csv"), ErrorCode.NOT_ACCEPTABLE)
    assert client.get(COMMANDS, HTTP_ACCEPT="*/*")["Content-Type"] == "application/json"


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\t=1", " =1", "\ufeff=1", "\u200b \x01-1", "\u202e=1"])
def test_no_cell_of_a_file_is_a_formula(api, alice, text):
    command(alice, text, tags=[text])
    [row] = exported(api(alice))
    assert row["text"] == f"'{text}"
    assert row["tags"].startswith("[")


def test_a_file_comes_piece_by_piece(api, alice, near):
    sent = [command(alice, "x") for _ in range(7)]
    answer = api(alice).get(COMMANDS, HTTP_ACCEPT="text/csv")
    pieces = iter(answer)
    with CaptureQueriesContext(connection) as captured:
        assert next(pieces).startswith(b"id,user_id,text")
    assert len(captured) == 0
    assert next(pieces).count(b"\r\n") == 3
    command(alice, "sent meanwhile")
    assert b"".join(pieces).count(b"\r\n") == len(sent) - 3


@pytest.mark.django_db(transaction=True)
async def test_a_file_is_streamed_by_an_asgi_server_too(alice):
    def prepare():
        command(alice, "hers")
        return session_of(alice)[1].access

    token = await sync_to_async(prepare)()
    answer = await AsyncClient().get(COMMANDS, headers={"Authorization": f"Bearer {token}", "Accept": "text/csv"})
    assert answer.is_async
    assert b"hers" in b"".join([piece async for piece in answer])
    await sync_to_async(connections.close_all)()
