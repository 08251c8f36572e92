import asyncio
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.ids import new_id
from notifications import delivery
from notifications.delivery import Delivery
from notifications.frames import frame_text
from notifications.rooms import MAX_PENDING, CommandRoom, command_of_room

ID = UUID("01980000-abcd-7000-8000-000000000001")
LAST = 45  # more than a few pages, and more than may be pending


def _payload(seq, *, ended=False, command_id=ID):
    return {"command": {"id": str(command_id), "status": "completed" if ended else "running"}, "seq": seq}


async def _drop(text):
    pass


def test_the_room_of_a_command_is_named_after_its_id():
    assert command_of_room(f"command:{ID}") == ID


@pytest.mark.parametrize(
    "room",
    [
        "",
        "command:",
        "user",
        f"{ID}",
        f"Command:{ID}",
        f"command:{str(ID).upper()}",
        f"command:{ID.hex}",
        f"command:{{{ID}}}",
        f"command:urn:uuid:{ID}",
        f" command:{ID}",
        f"command:{ID}\n",
        f"command:{ID}\0",
        "command:\ud800",
        "command:" + "٣" * 32,
    ],
)
def test_a_room_has_one_name_only(room):
    assert command_of_room(room) is None


def test_what_comes_just_in_time_is_passed_on_without_reading():
    room = CommandRoom(ID, seq=3, target=3, behind=False)
    for seq in (4, 4, 5, 3, 5, 6):
        room.hear(_payload(seq))
    assert [payload["seq"] for payload in room.pending] == [4, 5, 6]
    assert not room.behind


def test_a_gap_makes_it_read_and_what_was_pending_is_read_too():
    room = CommandRoom(ID, seq=3, target=3, behind=False)
    room.hear(_payload(4))
    room.hear(_payload(6))
    assert (room.behind, room.target, list(room.pending)) == (True, 6, [])


def test_no_more_than_a_few_are_held():
    room = CommandRoom(ID, seq=0, target=0, behind=False)
    for seq in range(1, 10_000):
        room.hear(_payload(seq))
        assert len(room.pending) <= MAX_PENDING
    assert room.behind


def test_the_last_event_ends_the_room():
    room = CommandRoom(ID, seq=3, target=3, behind=False)
    room.note_sent(_payload(4))
    assert not room.ended
    room.note_sent(_payload(5, ended=True))
    assert room.ended


class Database:
    """A log of one command's events, and somebody who reads its room."""

    def __init__(self, monkeypatch, *, after=0):
        self.last_seq = 0
        self.sent = []
        self.between = []  # what happens while something is sent or read: (what, number)
        self.delivery = Delivery(self._send)
        self.delivery.join(CommandRoom(ID, seq=after, target=0))
        monkeypatch.setattr(delivery, "PAGE", 7)
        monkeypatch.setattr(delivery, "read_events", self._read_events)
        monkeypatch.setattr(delivery, "read_last_seqs", self._read_last_seqs)

    async def _send(self, text):
        self.sent.append(text)
        await self._let_happen()

    async def _read_events(self, command_id, after):
        events = [_payload(seq) for seq in range(after + 1, self.last_seq + 1)][: delivery.PAGE]
        await self._let_happen()
        return events

    async def _read_last_seqs(self, user, command_ids):
        last_seq = self.last_seq
        await self._let_happen()
        return dict.fromkeys(command_ids, (last_seq, False))

    async def _let_happen(self):
        await asyncio.sleep(0)
        if self.between:
            await self.do(*self.between.pop())

    async def do(self, what, number):
        """Let something happen. What is broadcast was committed before, and may be broadcast in any order, or never."""
        if what == "commit":
            self.last_seq = min(self.last_seq + number % 5, LAST)
        elif what == "broadcast" and self.last_seq:
            self.delivery.hear(_payload(number % self.last_seq + 1))
        elif what == "broadcast newest" and self.last_seq:
            self.delivery.hear(_payload(self.last_seq))
        elif what == "resync":
            await self.delivery.resync(None)
        elif what == "answer":
            self.delivery.answer(frame_text("pong"))
        for _ in range(number % 4):
            await asyncio.sleep(0)

    async def play(self, happenings, between):
        self.between = between
        running = asyncio.ensure_future(self.delivery.run())
        for what, number in happenings:
            await self.do(what, number)
        self.between, self.last_seq = [], LAST
        await self.delivery.resync(None)
        while self.delivery.rooms[ID].seq < LAST or self.delivery._answers:
            await asyncio.sleep(0)
            assert not running.done()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        return [text for text in self.sent if text != frame_text("pong")]


happening = st.tuples(
    st.sampled_from(["commit", "commit", "broadcast newest", "broadcast newest", "broadcast", "resync", "answer"]),
    st.integers(0, 1000),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(happening, max_size=60), st.lists(happening, max_size=60), st.integers(0, 3))
def test_every_event_goes_out_once_and_in_order_whatever_the_channel_layer_does(happenings, between, after):
    with pytest.MonkeyPatch.context() as monkeypatch:
        database = Database(monkeypatch, after=after)
        sent = asyncio.run(asyncio.wait_for(database.play(happenings, between), 2))
    assert sent == [frame_text("command.event", _payload(seq)) for seq in range(after + 1, LAST + 1)]


async def test_an_event_that_comes_while_the_database_is_found_empty_is_not_lost(monkeypatch):
    """It was committed after the database looked, and there is none after it that would show the gap."""
    log = []
    done = asyncio.Event()

    async def look(command_id, after):
        found = log[after:]
        if not log:
            log.append(_payload(1))
            writer.hear(_payload(1))
        return found

    async def send(text):
        done.set()

    monkeypatch.setattr(delivery, "read_events", look)
    writer = Delivery(send)
    writer.join(CommandRoom(ID, seq=0, target=0))
    running = asyncio.ensure_future(writer.run())
    await asyncio.wait_for(done.wait(), 2)
    running.cancel()


async def test_a_busy_room_does_not_hold_up_the_others(monkeypatch):
    """The first room has news for ever; the second gets its turn."""
    other = new_id()
    sent = asyncio.Queue()

    async def endless(command_id, after):
        await asyncio.sleep(0)
        count = delivery.PAGE if command_id == ID else 1 - after
        return [_payload(after + number, command_id=command_id) for number in range(1, count + 1)]

    monkeypatch.setattr(delivery, "read_events", endless)
    writer = Delivery(sent.put)
    writer.join(CommandRoom(ID, seq=0, target=0))
    writer.join(CommandRoom(other, seq=0, target=1))
    running = asyncio.ensure_future(writer.run())
    while await sent.get() != frame_text("command.event", _payload(1, command_id=other)):
        pass
    running.cancel()


async def test_an_answer_comes_between_what_was_joined_before_and_after_it(monkeypatch):
    """The client joins anew, from the beginning, while the events of its first time are being sent."""
    sent = []
    answer = frame_text("subscribed")
    done = asyncio.Event()

    async def send(text):
        sent.append(text)
        await asyncio.sleep(0)
        if len(sent) == 3:
            writer.answer(answer)
            writer.join(CommandRoom(ID, seq=0, target=9))
        if text == frame_text("command.event", _payload(9)):
            done.set()

    async def nine(command_id, after):
        return [_payload(seq) for seq in range(after + 1, 10)]

    monkeypatch.setattr(delivery, "read_events", nine)
    writer = Delivery(send)
    writer.join(CommandRoom(ID, seq=0, target=9))
    running = asyncio.ensure_future(writer.run())
    await done.wait()
    running.cancel()
    events = [frame_text("command.event", _payload(seq)) for seq in range(1, 10)]
    assert sent == [*events[:3], answer, *events]


async def test_a_deleted_command_does_not_make_it_read_for_ever(monkeypatch):
    reads = []

    async def nothing(command_id, after):
        reads.append(after)
        return []

    monkeypatch.setattr(delivery, "read_events", nothing)
    writer = Delivery(_drop)
    room = CommandRoom(ID, seq=2, target=9)
    writer.join(room)
    running = asyncio.ensure_future(writer.run())
    for _ in range(20):
        await asyncio.sleep(0)
    running.cancel()
    assert reads == [2]
    assert not room.behind


def test_news_of_a_room_that_was_not_joined_is_dropped():
    writer = Delivery(_drop)
    writer.hear(_payload(1, command_id=UUID(int=5)))
    assert writer.rooms == {}
