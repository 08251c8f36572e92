"""What one socket knows of one room: which numbers it has sent, and which it still has to send."""

from collections import deque
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from commands.states import TERMINAL

MAX_PENDING = 20
SERVICES_ROOM = "services"
_COMMAND_PREFIX = "command:"


def command_of_room(room: str) -> UUID | None:
    """Return the command of a `command:<id>` room, None for any other name."""
    if not room.startswith(_COMMAND_PREFIX):
        return None
    try:
        command_id = UUID(room.removeprefix(_COMMAND_PREFIX))
    except ValueError:
        return None
    return command_id if room == f"{_COMMAND_PREFIX}{command_id}" else None


@dataclass
class CommandRoom:
    """A follower of numbered events that come at most once and in any order, and can be read again in order.

    What comes just in time is passed on as it is. Whatever does not fit (a gap, too much at once) makes the room
    `behind`: then the events are read from the database, up to `target` at least.
    """

    command_id: UUID
    seq: int  # the newest number that was sent
    target: int
    behind: bool = True
    ended: bool = False
    pending: deque[dict[str, Any]] = field(default_factory=deque)

    @property
    def newest(self) -> int:
        """The newest number that was sent, or is about to be."""
        return self.seq + len(self.pending)

    def hear(self, payload: dict[str, Any]) -> None:
        """Take in an event that was broadcast."""
        seq: int = payload["seq"]
        if seq <= self.newest:
            return
        if not self.behind and seq == self.newest + 1 and len(self.pending) < MAX_PENDING:
            self.pending.append(payload)
        else:
            self.fall_behind(seq)

    def fall_behind(self, target: int) -> None:
        self.behind = True
        self.target = max(self.target, target)
        self.pending.clear()

    def note_sent(self, payload: dict[str, Any]) -> None:
        """Note that this one goes out now."""
        self.seq = payload["seq"]
        self.ended = payload["command"]["status"] in TERMINAL
