"""Pages by key: complete and without repeats while rows come in, and no cursor that breaks anything."""

from base64 import b64encode
from itertools import chain

import pytest

from commands.models import Command
from commands.services import command_submit
from gateway.ids import new_id
from gateway.tests.expect import fields_of

pytestmark = pytest.mark.django_db

COMMANDS = "/api/v2/commands"


@pytest.fixture
def client(api, alice):
    return api(alice)


def submit(user, count):
    return [str(command_submit(user=user, text=f"echo {number}").id) for number in range(count)]


def walk(client, link, direction="next", after_page=lambda: None):
    """Return the ids of every page from here on, one list per page."""
    pages = []
    while link is not None:
        body = client.get(link).json()
        pages.append([row["id"] for row in body["results"]])
        link = body[direction]
        after_page()
    return pages


def cursor(text):
    return b64encode(text.encode()).decode()


@pytest.mark.parametrize(("limit", "sizes"), [(1, [1] * 7), (3, [3, 3, 1]), (7, [7]), (100, [7])])
def test_the_pages_hold_every_row_once_the_newest_first(client, alice, limit, sizes):
    ids = submit(alice, 7)
    pages = walk(client, f"{COMMANDS}?limit={limit}")
    assert [len(page) for page in pages] == sizes
    assert list(chain(*pages)) == ids[::-1]


def test_there_are_twenty_five_rows_on_a_page_by_default(client, alice):
    submit(alice, 26)
    assert [len(page) for page in walk(client, COMMANDS)] == [25, 1]


def test_no_rows_are_one_empty_page(client):
    assert client.get(COMMANDS).json() == {"results": [], "next": None, "previous": None}


def test_rows_that_come_in_between_neither_repeat_nor_hide_others(client, alice):
    ids = submit(alice, 6)
    pages = walk(client, f"{COMMANDS}?limit=2", after_page=lambda: submit(alice, 3))
    assert list(chain(*pages)) == ids[::-1]


def test_a_row_that_goes_in_between_hides_no_other(client, alice):
    ids = submit(alice, 6)
    first = client.get(f"{COMMANDS}?limit=2").json()
    Command.objects.filter(id=ids[4]).delete()
    assert list(chain(*walk(client, first["next"]))) == ids[3::-1]


def test_one_can_go_back(client, alice):
    ids = submit(alice, 5)
    last = f"{COMMANDS}?limit=2"
    while (link := client.get(last).json()["next"]) is not None:
        last = link
    assert walk(client, last, "previous") == [ids[0:1], ids[2:0:-1], ids[4:2:-1]]


def test_the_links_keep_the_filter(client, alice):
    submit(alice, 3)
    assert "status=queued" in client.get(f"{COMMANDS}?limit=1&status=queued").json()["next"]


@pytest.mark.parametrize(
    "limit", ["0", "101", "abc", "-1", "\uff11", "1.0", " 1", "1\n", "+1", "01", "1e1", "", "9" * 5000, "\0"]
)
def test_a_limit_that_is_none_is_refused(client, limit):
    assert fields_of(client.get(COMMANDS, {"limit": limit})).keys() == {"limit"}


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "x",
        "%",
        "====",
        "ğ",
        "\0",
        "A" * 5000,
        cursor("p=abc"),
        cursor("p="),
        cursor("p=\0"),
        cursor("r=1&p=\0"),
        cursor("p=%ED%A0%80"),
        cursor("o=-1"),
        cursor("o=x"),
        cursor("r=x"),
        cursor("o=" + "9" * 5000),
        cursor("p=" + "9" * 5000),
        cursor("p=019330d0-6f1e-7c3a-9d0b"),
        b64encode(b"\xff\xfe").decode(),
    ],
    ids=lambda bad: repr(bad)[:30],
)
def test_a_cursor_that_is_none_is_refused(client, alice, bad):
    submit(alice, 2)
    assert fields_of(client.get(COMMANDS, {"cursor": bad})).keys() == {"cursor"}


def test_a_cursor_at_a_row_that_is_not_there_is_a_place_all_the_same(client, alice):
    ids = submit(alice, 2)
    answer = client.get(COMMANDS, {"cursor": cursor(f"p={new_id()}")})
    assert [row["id"] for row in answer.json()["results"]] == ids[::-1]


def test_the_cursor_of_another_user_shows_only_ones_own(client, api, alice, bob):
    submit(alice, 3)
    submit(bob, 3)
    theirs = api(bob).get(f"{COMMANDS}?limit=1").json()["next"]
    owners = Command.objects.filter(id__in=chain(*walk(client, theirs))).values_list("user", flat=True)
    assert set(owners) == {alice.id}
