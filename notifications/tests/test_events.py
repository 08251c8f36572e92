import threading

import pytest
from django.db import connections, transaction
from django.utils import timezone

from commands.api.serializers import EventOutput
from commands.events import events_broadcast
from commands.models import Command
from commands.states import Status
from commands.transitions import command_transition
from gateway.ids import new_id
from notifications import consumers, delivery
from notifications.tests.conftest import happen, make_command

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def in_thread():
    """Call it with a function to run it beside the test."""
    threads = []

    def start(work):
        def run():
            try:
                work()
            finally:
                connections.close_all()

        threads.append(threading.Thread(target=run))
        threads[-1].start()
        return threads[-1]

    yield start
    for thread in threads:
        thread.join()


# --- rooms -----------------------------------------------------------------------------------------------------------


def test_a_room_is_told_from_its_first_event_and_the_answer_comes_before(alice, dial_as):
    command = make_command(alice, events=3)
    client = dial_as(alice)
    client.send("subscribe", {"rooms": [f"command:{command.id}"]}, frame_id=5)
    answer = client.receive()
    assert answer == {"type": "subscribed", "id": 5, "payload": {"rooms": [f"command:{command.id}"], "denied": []}}
    assert client.events(3) == [1, 2, 3]
    client.assert_nothing_more()


def test_an_event_on_the_socket_is_the_one_of_the_api(alice, dial_as, api):
    command = make_command(alice)
    client = dial_as(alice)
    client.subscribe(command)
    replayed = client.expect("command.event")
    command_transition(command, Status.SEGMENTING, data={"name": "ışık"})
    live = client.expect("command.event")
    assert live["command"] == {"id": str(command.id), "status": "segmenting", "stage": "segmentation", "progress": 0}
    assert (live["room"], live["seq"], live["event"], live["data"]) == (
        f"command:{command.id}",
        2,
        "segmenting",
        {"name": "ışık"},
    )
    assert api(alice).get(f"/api/v2/commands/{command.id}/events").json()["results"] == [replayed, live]


def test_it_goes_on_after_the_number_that_the_client_has(alice, dial_as):
    command = make_command(alice, events=150)
    client = dial_as(alice)
    client.subscribe(command, after=148)
    assert client.events(2) == [149, 150]
    happen(command)
    assert client.events(1) == [151]


def test_a_number_from_the_future_is_brought_back(alice, dial_as):
    command = make_command(alice, events=3)
    client = dial_as(alice)
    client.subscribe(command, after=1000)
    client.assert_nothing_more()
    happen(command)
    assert client.events(1) == [4]


@pytest.mark.security
@pytest.mark.security_access
def test_what_others_own_and_what_does_not_exist_look_the_same(alice, bob, dial_as):
    foreign, missing = f"command:{make_command(bob).id}", f"command:{new_id()}"
    own = make_command(alice)
    unknown = ["user", "commands", "Services", "role:admin", "", "command:", f"command:{str(own.id).upper()}", "\ud800"]
    client = dial_as(alice)
    client.send("subscribe", {"rooms": [foreign, *unknown, missing, f"command:{own.id}"]})
    answer = client.expect("subscribed")
    assert answer["rooms"] == [f"command:{own.id}"]
    assert answer["denied"] == [
        {"room": foreign, "code": "not_found"},
        *({"room": room, "code": "unknown_room"} for room in unknown),
        {"room": missing, "code": "not_found"},
    ]
    assert client.events(1) == [1]


@pytest.mark.security
@pytest.mark.security_access
def test_nobody_hears_of_a_foreign_command(alice, bob, dial_as):
    command = make_command(bob)
    stranger, owner = dial_as(alice), dial_as(bob)
    stranger.subscribe(command)
    owner.subscribe(command)
    happen(command)
    assert owner.events(2) == [1, 2]
    stranger.assert_nothing_more()


def test_a_socket_has_so_many_rooms_and_no_more(alice, dial_as, monkeypatch):
    monkeypatch.setattr(consumers, "MAX_ROOMS", 2)
    commands = [make_command(alice) for _ in range(3)]
    client = dial_as(alice)
    assert client.subscribe(*commands)["denied"] == [{"room": f"command:{commands[2].id}", "code": "too_many_rooms"}]
    assert client.events(2) == [1, 1]
    assert client.subscribe(*commands[:2], after=1)["denied"] == []
    client.send("unsubscribe", {"rooms": [f"command:{commands[0].id}"]})
    client.expect("unsubscribed")
    assert client.subscribe(commands[2])["denied"] == []


def test_leaving_a_room_ends_its_events(alice, dial_as):
    left, kept = make_command(alice), make_command(alice)
    client = dial_as(alice)
    client.subscribe(left, kept, after=1)
    rooms = [f"command:{left.id}", "user", f"command:{new_id()}"]
    assert client.ask("unsubscribe", {"rooms": rooms})["payload"] == {"rooms": rooms[:1]}
    happen(left)
    happen(kept)
    assert client.expect("command.event")["room"] == f"command:{kept.id}"
    client.assert_nothing_more()


def test_joining_again_begins_again_where_the_client_says(alice, dial_as):
    command = make_command(alice, events=120)
    client = dial_as(alice)
    client.subscribe(command)
    assert client.events(5) == [1, 2, 3, 4, 5]
    client.send("subscribe", {"rooms": [f"command:{command.id}"], "after": {f"command:{command.id}": 2}})
    while (frame := client.receive())["type"] != "subscribed":
        assert frame["type"] == "command.event"
    assert client.events(118) == list(range(3, 121))
    happen(command)
    assert client.events(1) == [121]
    client.assert_nothing_more()


def test_events_that_are_no_longer_kept_are_not_waited_for(alice, dial_as, monkeypatch):
    monkeypatch.setattr(consumers, "CHECK_SECONDS", 0.05)
    read, looked = [], []
    read_events, read_last_seqs = delivery.read_events, delivery.read_last_seqs

    def noted_read(command_id, after):
        read.append(command_id)
        return read_events(command_id, after)

    def noted_look(user, command_ids):
        looked.append(command_ids)
        return read_last_seqs(user, command_ids)

    monkeypatch.setattr(delivery, "read_events", noted_read)
    monkeypatch.setattr(delivery, "read_last_seqs", noted_look)
    old, other = make_command(alice, events=3), make_command(alice)
    ended = {"status": Status.COMPLETED, "finished_at": timezone.now(), "due_at": None}
    Command.objects.filter(id=old.id).update(**ended)
    old.events.all().delete()
    client = dial_as(alice)
    client.subscribe(old, other, after=1)
    while len(looked) < 3:
        happen(other)
        assert client.expect("command.event")["room"] == f"command:{other.id}"
    assert read.count(old.id) == 1
    assert looked[-1] == [other.id]


def test_a_command_that_is_deleted_does_no_harm(alice, dial_as, monkeypatch):
    monkeypatch.setattr(consumers, "CHECK_SECONDS", 0.05)
    command, other = make_command(alice), make_command(alice)
    client = dial_as(alice)
    client.subscribe(command, other, after=1)
    command.delete()
    happen(other)
    assert client.events(1) == [2]


# --- no gap, no repeat -----------------------------------------------------------------------------------------------


def test_somebody_who_joins_midway_misses_nothing(alice, dial_as, in_thread):
    command = make_command(alice, events=50)
    client = dial_as(alice)

    def work():
        for _ in range(120):
            happen(command)

    in_thread(work)
    client.subscribe(command)
    assert client.events(170) == list(range(1, 171))
    client.assert_nothing_more()


def test_nothing_is_missed_between_two_sockets(alice, dial_as):
    command = make_command(alice, events=2)
    first = dial_as(alice)
    first.subscribe(command)
    assert first.events(2) == [1, 2]
    first.close()
    happen(command)
    second = dial_as(alice)
    second.subscribe(command, after=2)
    happen(command)
    assert second.events(2) == [3, 4]


def test_long_histories_are_told_in_full(alice, dial_as):
    commands = [make_command(alice, events=350), make_command(alice, events=100)]
    client = dial_as(alice)
    client.subscribe(*commands)
    told = [client.expect("command.event") for _ in range(450)]
    for command, last in zip(commands, (350, 100), strict=True):
        numbers = [event["seq"] for event in told if event["command"]["id"] == str(command.id)]
        assert numbers == list(range(1, last + 1))
    client.assert_nothing_more()


def test_events_broadcast_twice_late_and_in_disorder_come_once_and_in_order(alice, dial_as):
    command = make_command(alice)
    client = dial_as(alice)
    client.subscribe(command, after=1)
    with transaction.atomic():
        for _ in range(30):
            happen(command)
        transaction.get_connection().run_on_commit.clear()
    events = list(command.events.order_by("seq"))
    events_broadcast([*events[5:9], *events[1:4], events[12], *events[::-1], events[3], *events])
    assert client.events(30) == list(range(2, 32))
    client.assert_nothing_more()


def test_an_event_that_was_never_broadcast_comes_all_the_same(alice, dial_as, unheard, monkeypatch):
    monkeypatch.setattr(consumers, "CHECK_SECONDS", 0.1)
    command = make_command(alice)
    client = dial_as(alice)
    client.subscribe(command)
    assert client.events(1) == [1]
    happen(command)
    assert client.events(1) == [2]


def test_a_command_that_has_ended_is_not_asked_about_any_more(alice, dial_as, monkeypatch):
    command = make_command(alice)
    command_transition(command, Status.CANCELLED)
    asked, checked = [], threading.Event()
    read_last_seqs = delivery.read_last_seqs

    async def spy(user, command_ids):
        asked.extend(command_ids)
        checked.set()
        return await read_last_seqs(user, command_ids)

    client, running = dial_as(alice), make_command(alice)
    client.subscribe(command, running, after=2)
    client.assert_nothing_more()
    monkeypatch.setattr(delivery, "read_last_seqs", spy)
    monkeypatch.setattr(consumers, "CHECK_SECONDS", 0.05)
    other = dial_as(alice)
    other.subscribe(command, running, after=2)
    assert checked.wait(10)
    other.assert_nothing_more()
    assert set(asked) == {running.id}


def test_what_is_broadcast_is_what_is_read(alice, dial_as):
    command = make_command(alice)
    client = dial_as(alice)
    client.subscribe(command)
    payload = client.expect("command.event")
    assert payload == dict(EventOutput(command.events.get()).data)
