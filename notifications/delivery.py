"""Writes to the client: answers to its frames, and each room's events in order, without gap or repeat, as it reads.

Memory is bounded whatever happens: a room holds few pending events, and one that falls behind reads the rest from the
database when the client is ready for it.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

from channels.db import database_sync_to_async

from accounts.models import User
from commands.api.serializers import EventOutput
from commands.selectors import command_events, visible_last_seqs
from gateway.api.serializers import output_of
from notifications.closing import CloseCode, SocketClosedError
from notifications.frames import frame_text
from notifications.rooms import CommandRoom

MAX_ANSWERS = 100
PAGE = 100


@database_sync_to_async
def read_last_seqs(user: User, command_ids: list[UUID]) -> dict[UUID, tuple[int, bool]]:
    return visible_last_seqs(user=user, command_ids=command_ids)


@database_sync_to_async
def read_events(command_id: UUID, after: int) -> list[dict[str, Any]]:
    events = command_events(command_id=command_id, after=after, limit=PAGE)
    return [output_of(EventOutput, event) for event in events]


class Delivery:
    """The one writer of a socket. Everything but `run` returns at once, however slowly the client reads."""

    def __init__(self, send: Callable[[str], Awaitable[None]]) -> None:
        self.rooms: dict[UUID, CommandRoom] = {}
        self._send = send
        self._answers: deque[str] = deque()
        self._services: dict[str, dict[str, Any]] = {}
        self._news = asyncio.Event()

    def answer(self, text: str) -> None:
        """Send this before anything of rooms that are joined later."""
        if len(self._answers) >= MAX_ANSWERS:
            raise SocketClosedError(CloseCode.TOO_SLOW)
        self._answers.append(text)
        self._news.set()

    def take_answers(self) -> list[str]:
        """Hand over the answers that have not been sent, to somebody else who sends them."""
        answers = list(self._answers)
        self._answers.clear()
        return answers

    def join(self, room: CommandRoom) -> None:
        """Send the events of this room. If it was joined already, begin again where the new one says."""
        self.rooms[room.command_id] = room
        self._news.set()

    def leave(self, command_id: UUID) -> None:
        self.rooms.pop(command_id, None)

    def hear(self, payload: dict[str, Any]) -> None:
        """Take in an event that was broadcast."""
        room = self.rooms.get(UUID(payload["command"]["id"]))
        if room is not None:
            room.hear(payload)
            self._news.set()

    def hear_of_service(self, payload: dict[str, Any]) -> None:
        """Take in the news of an instance. Of what a slow client has not read yet, the latest alone is kept."""
        self._services[payload["service"]["id"]] = payload
        self._news.set()

    def leave_services(self) -> None:
        self._services.clear()

    async def resync(self, user: User) -> None:
        """Look whether the database knows more than was heard: broadcasts can get lost."""
        open_rooms = [room for room in self.rooms.values() if not room.ended]
        if not open_rooms:
            return
        last_seqs = await read_last_seqs(user, [room.command_id for room in open_rooms])
        for room in open_rooms:
            last_seq, ended = last_seqs.get(room.command_id, (0, True))
            if last_seq > room.newest:
                room.fall_behind(last_seq)
                self._news.set()
            elif ended and room.seq >= last_seq:
                room.ended = True  # and its last event, which says so, is not kept any more

    async def run(self) -> None:
        """Send what there is to send, until cancelled. Raises what sending and reading the database raise."""
        while True:
            await self._news.wait()
            self._news.clear()
            await self._send_answers()
            while self._services:
                payload = self._services.pop(next(iter(self._services)))
                await self._send(frame_text("service.changed", payload))
                await self._send_answers()
            for room in list(self.rooms.values()):
                await self._advance(room)

    async def _advance(self, room: CommandRoom) -> None:
        """Send some events of this room: not all, so that a busy room does not hold up the others."""
        if room.behind:
            await self._replay(room)
        for _ in range(PAGE):
            await self._send_answers()
            if room.behind or not room.pending or self._has_left(room):
                break
            await self._send_event(room, room.pending.popleft())
        if room.behind or room.pending:
            self._news.set()

    async def _replay(self, room: CommandRoom) -> None:
        target = room.target
        events = await read_events(room.command_id, room.seq)
        for payload in events:
            await self._send_answers()
            if self._has_left(room):
                return
            await self._send_event(room, payload)
        if len(events) < PAGE:
            # That was all there was up to the target of then: what is missing was deleted, as old events are. If the
            # target moved while this was read and sent, the event that moved it may not have been seen.
            room.seq = max(room.seq, target)
            room.behind = room.target > room.seq

    async def _send_event(self, room: CommandRoom, payload: dict[str, Any]) -> None:
        room.note_sent(payload)
        await self._send(frame_text("command.event", payload))

    async def _send_answers(self) -> None:
        while self._answers:
            await self._send(self._answers.popleft())

    def _has_left(self, room: CommandRoom) -> bool:
        """Whether the client has left the room, or joined it anew, since."""
        return self.rooms.get(room.command_id) is not room
