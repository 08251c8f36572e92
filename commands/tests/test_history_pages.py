"""The pages of the list of commands: each command once, in few queries, along an index."""

import random
from datetime import timedelta
from urllib.parse import parse_qsl, urlsplit
from uuid import UUID

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from commands.history import CommandFilters, command_history
from commands.models import Command, Mode
from commands.states import Status
from commands.tests.listing import COMMANDS, command
from files.tests.rows import stored_file
from gateway.ids import first_id_at

pytestmark = pytest.mark.django_db


# --- Pages ----------------------------------------------------------------------------------------------------------


def follow(client, link):
    return client.get(COMMANDS, parse_qsl(urlsplit(link).query)).json()


def walk(client, start, direction, between=lambda: None):
    """Follow the links, and do something between the pages. Return the pages."""
    pages = [start]
    while start[direction]:
        between()
        start = follow(client, start[direction])
        pages.append(start)
    return pages


def ids(pages):
    return [row["id"] for page in pages for row in page["results"]]


QUERIES = [{}, {"status": "failed"}, {"status": "failed,queued"}, {"mode": "chaos"}, {"tag": "a"}, {"q": "rapor"}]


@pytest.mark.parametrize("ordering", ["created_at", "-created_at"])
@pytest.mark.parametrize("query", QUERIES)
def test_pages_there_and_back_hold_each_command_once_while_others_are_sent(api, alice, bob, near, query, ordering):
    chance = random.Random(str(query))  # noqa: S311 - for a test

    def send(user=alice):
        text, status = chance.choice(("rapor", "echo")), chance.choice((Status.FAILED, Status.QUEUED, Status.RUNNING))
        mode, tags = chance.choice(Mode.values[::3]), chance.choice((["a"], ["a", "b"], []))
        return command(user, text, status=status, mode=mode, tags=tags)

    before = [send(user) for _ in range(20) for user in (alice, bob)]
    client, query = api(alice), {**query, "ordering": ordering, "limit": 2}
    whole = ids([client.get(COMMANDS, {**query, "limit": 100}).json()])
    assert 2 < len(whole) <= 20
    first = client.get(COMMANDS, query).json()
    pages = walk(client, first, "next", between=send)
    there = ids(pages)
    assert len(set(there)) == len(there)
    assert there[: len(whole)] == whole
    if ordering == "-created_at":
        assert there == whole  # what is sent meanwhile is newer than all of this
    back = walk(client, pages[-1], "previous", between=send)
    assert first["previous"] is None
    again = [row for page in reversed(back) for row in ids([page])]
    assert len(set(again)) == len(again)
    assert [each for each in again if each in there] == there
    assert {str(each.id) for each in before if each.user == bob}.isdisjoint(again)


@pytest.mark.parametrize(
    ("texts", "queries"),
    [
        ("xx........xxxx", 1),  # the newest first: what the three nearest fill
        ("x....x........", 2),  # as one of three was wanted, thrice as many as it takes are looked at ...
        ("x............x", 3),  # ... which are not enough
        ("..........x..x", 2),  # who has none nearby is not asked for more
        ("x.", 1),
    ],
)
def test_a_page_costs_few_queries_wherever_its_commands_are(alice, near, texts, queries):
    for text in reversed(texts):
        command(alice, "rapor" if text == "x" else "echo")
    history_of_alice = command_history(user_id=alice.pk, filters=CommandFilters(text="rapor"))
    with CaptureQueriesContext(connection) as captured:
        assert len(history_of_alice[0:2]) == min(2, texts.count("x"))
    assert len(captured) == queries
    with CaptureQueriesContext(connection) as captured:
        command_history(user_id=alice.pk, filters=CommandFilters())[0:26]
    assert len(captured) == 1


def test_the_files_of_a_page_come_in_one_query_more(alice):
    file = stored_file(alice)
    command(alice, alt_file=file)
    command(alice)
    with CaptureQueriesContext(connection) as captured:
        page = command_history(user_id=alice.pk, filters=CommandFilters())[0:2]
        assert [each.files for each in page] == [[], [file]]
    assert len(captured) == 2


def test_nobody_looks_at_what_was_made_before_the_time_that_is_asked_for(alice, near):
    before = timezone.now() - timedelta(hours=1)
    for number in range(10):
        command(alice, id=UUID(int=first_id_at(before).int + number))
    Command.objects.update(created_at=before)
    recent = command(alice)
    filters = CommandFilters(created_after=before + timedelta(minutes=30))
    with CaptureQueriesContext(connection) as captured:
        assert command_history(user_id=alice.pk, filters=filters)[0:5] == [recent]
    assert len(captured) == 1


@pytest.mark.parametrize("seed", range(5))
def test_any_filters_give_what_a_look_at_each_command_gives(alice, bob, near, seed):
    chance = random.Random(seed)  # noqa: S311 - for a test
    near(chance.choice((1, 2, 5, 50)))
    everything = [
        command(
            chance.choice((alice, bob)),
            chance.choice(("haftalık RAPOR", "echo", "İzmir raporu")),
            status=chance.choice(Status.values),
            mode=chance.choice(Mode.values),
            persona=chance.choice(("poet", "teacher")),
            tags=chance.sample(["a", "b", "c"], chance.randrange(3)),
        )
        for _ in range(40)
    ]
    for _ in range(20):
        after = chance.choice((None, everything[chance.randrange(40)].created_at))
        filters = CommandFilters(
            status=frozenset(chance.sample(Status.values, chance.choice((0, 0, 1, 3)))),
            mode=frozenset(chance.sample(Mode.values, chance.choice((0, 0, 2)))),
            persona=chance.choice(("", "", "poet")),
            tags=frozenset(chance.sample(["a", "b"], chance.choice((0, 0, 1, 2)))),
            text=chance.choice(("", "", "rapor", "IZMIR")),
            created_after=after,
            created_before=chance.choice((None, everything[chance.randrange(40)].created_at)),
        )
        expected = [each for each in everything if each.user == alice and lets_through(filters, each)]
        rows = command_history(user_id=alice.pk, filters=filters)
        size = chance.choice((1, 3, 100))
        assert rows[0:size] == expected[::-1][:size], filters
        assert rows.order_by("id")[0:size] == expected[:size], filters
        assert [each for piece in rows.pieces() for each in piece] == expected[::-1], filters


def lets_through(filters, command):
    text = command.text.translate(str.maketrans("İIıŞş", "iiiss")).lower()
    return (
        (not filters.status or command.status in filters.status)
        and (not filters.mode or command.mode in filters.mode)
        and filters.persona in ("", command.persona)
        and filters.tags <= set(command.tags)
        and filters.text.lower() in text
        and (filters.created_after is None or command.created_at >= filters.created_after)
        and (filters.created_before is None or command.created_at < filters.created_before)
    )


# --- The index ------------------------------------------------------------------------------------------------------


RARE = [
    CommandFilters(text="Zümrüdüanka"),
    CommandFilters(tags=frozenset(["rare"])),
    CommandFilters(persona="nobody"),
    CommandFilters(text="zumrudu", status=frozenset(["completed", "failed"]), mode=frozenset(["normal"])),
]


def test_what_is_rare_is_found_by_the_index(alice):
    if connection.vendor != "postgresql":
        pytest.skip("the index is PostgreSQL's")
    names = ", ".join(field.column for field in Command._meta.concrete_fields if field.column not in ("id", "text"))
    command(alice)
    with connection.cursor() as cursor:
        copies = f"SELECT gen_random_uuid(), 'echo ' || n, {names} FROM commands_command, generate_series(1, 5000) n"  # noqa: S608 - constants
        cursor.execute(f"INSERT INTO commands_command (id, text, {names}) {copies}")
        cursor.execute("ANALYZE commands_command")
        cursor.execute("SELECT gin_clean_pending_list('command_search')")
        cursor.execute("SET LOCAL enable_seqscan = off")
    for filters in RARE:
        (_near, plan) = plans(command_history(user_id=alice.pk, filters=filters))
        assert "Bitmap Index Scan on command_search" in plan, plan


def test_a_page_goes_along_the_index_of_its_user(alice):
    if connection.vendor != "postgresql":
        pytest.skip("the plan is PostgreSQL's")
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off")
    for filters in (
        CommandFilters(),
        CommandFilters(created_after=timezone.now()),
        CommandFilters(mode=frozenset(["chaos"])),
    ):
        for ordering in ("-id", "id"):
            (plan,) = plans(command_history(user_id=alice.pk, filters=filters).order_by(ordering))
            assert "using command_of_user on" in plan, plan
            assert "Sort" not in plan, plan


def plans(history):
    """Read the first page. Return the plan of each query that this takes."""
    with CaptureQueriesContext(connection) as captured:
        history[0:26]
    with connection.cursor() as cursor:
        return [
            "\n".join(line for (line,) in cursor.execute(f"EXPLAIN {query['sql']}").fetchall())
            for query in captured.captured_queries
        ]
