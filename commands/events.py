"""News of commands for the rooms above: sent after the commit, at least once, possibly out of order.

Whoever listens orders by `seq` and can read what it missed with commands.selectors.

One thread of each process sends them, so that whoever has news waits for nobody. What it did not send, or not put down
as sent, because the process died or the listeners cannot be reached, is sent by `tasks.rebroadcast`.
"""

import atexit
import logging
import os
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any

from celery.signals import worker_process_shutdown
from django.db import close_old_connections, connection, connections, transaction
from django.dispatch import Signal
from django.utils import timezone

from commands.models import CommandEvent

logger = logging.getLogger(__name__)

MAX_WAITING = 10_000
BATCH = 500
AT_ONCE = 50  # put down by one statement
# Each event is sent at once, but many are put down as sent together. Much less than selectors.BROADCAST_GRACE.
PUT_DOWN_SECONDS = 0.5
END_SECONDS = 5.0
# The first of several is sent at once. What comes within so long after it goes together: each by itself costs as much.
PAUSE_SECONDS = 0.01

command_event_recorded = Signal()
"""Sent with `events`: a list of CommandEvent. If a receiver raises, they all come again later."""


def event_broadcast_on_commit(event: CommandEvent) -> None:
    # Robust: what goes wrong after the commit must not look like a failure of what was committed.
    transaction.on_commit(lambda: hand_over(event), robust=True)


def hand_over(event: CommandEvent) -> None:
    """Let this process's thread send the event, at once and without waiting for it."""
    _broadcaster.hand_over(event)


def flush() -> None:
    """Wait until all that was handed over is sent and put down as sent, for END_SECONDS at most."""
    _broadcaster.end()


def events_broadcast(events: Sequence[CommandEvent]) -> None:
    """Hand events to the listeners, and remember them as sent if they got through everywhere."""
    if _send(events):
        _put_down_as_sent(events)


def _send(events: Sequence[CommandEvent]) -> bool:
    """Hand events to the listeners. Return whether they got through everywhere."""
    if not events:
        return False
    outcomes = command_event_recorded.send_robust(sender=CommandEvent, events=list(events))
    errors = [result for _receiver, result in outcomes if isinstance(result, Exception)]
    if errors:
        logger.warning("%s events, from %s on, were not broadcast: %r", len(events), events[0], errors[0])
    return not errors


def _put_down_as_sent(events: Sequence[CommandEvent]) -> None:
    for at in range(0, len(events), AT_ONCE):
        _put_these_down(events[at : at + AT_ONCE])


def _put_these_down(events: Sequence[CommandEvent]) -> None:
    # Written out: Django takes longer to build it than to have it done. Pairs in a list of values would be worse: for
    # these, PostgreSQL may read the whole table.
    fields: list[Any] = [CommandEvent._meta.get_field(name) for name in ("command", "seq")]  # noqa: SLF001 - public
    keys = [field.get_db_prep_value(getattr(event, field.attname), connection) for event in events for field in fields]
    now = connection.ops.adapt_datetimefield_value(timezone.now())
    table, each = CommandEvent._meta.db_table, " OR ".join(["command_id = %s AND seq = %s"] * len(events))  # noqa: SLF001 - the same
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE {table} SET broadcast_at = %s WHERE {each}", [now, *keys])  # noqa: S608 - places


class _Broadcaster:
    """The thread, started when there is something to send. Nothing here may block or fail who hands something over."""

    def __init__(self) -> None:
        self._waiting: SimpleQueue[CommandEvent | None] = SimpleQueue()  # None: the end
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    def hand_over(self, event: CommandEvent) -> None:
        if self._waiting.qsize() >= MAX_WAITING:
            return  # it comes later, by `tasks.rebroadcast`
        self._waiting.put(event)
        if not self._is_running():
            with self._starting:
                if not self._is_running():
                    self._thread = threading.Thread(target=self._run, name="broadcaster", daemon=True)
                    self._thread.start()

    def end(self) -> None:
        if self._thread is not None and self._is_running():
            self._waiting.put(None)
            self._thread.join(END_SECONDS)

    def _is_running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _run(self) -> None:
        sent: list[CommandEvent] = []
        put_down_at = 0.0
        is_last = False
        while not is_last:
            batch = self._take(max(put_down_at - time.monotonic(), 0) if sent else None)
            is_last = None in batch
            events = [event for event in batch if event is not None]
            if _send(events):
                put_down_at = put_down_at if sent else time.monotonic() + PUT_DOWN_SECONDS
                sent += events
                time.sleep(PAUSE_SECONDS)
            if sent and (is_last or len(sent) >= BATCH or time.monotonic() >= put_down_at):
                self._put_down(sent)
                sent = []
        connections.close_all()

    def _take(self, seconds: float | None) -> list[CommandEvent | None]:
        """Return what there is. If that is nothing, wait for it, for so many seconds at most."""
        batch: list[CommandEvent | None] = []
        with suppress(Empty):
            batch.append(self._waiting.get(timeout=seconds))
            while len(batch) < BATCH and batch[-1] is not None:
                batch.append(self._waiting.get_nowait())
        return batch

    @staticmethod
    def _put_down(sent: list[CommandEvent]) -> None:
        try:
            close_old_connections()  # those that are too old or broken, as before and after a request
            _put_down_as_sent(sent)
            close_old_connections()
        except Exception as error:
            logger.warning(
                "%s events will be sent again, as that they were sent was not put down", len(sent), exc_info=error
            )
            connections.close_all()


_broadcaster = _Broadcaster()


def _start_anew() -> None:
    global _broadcaster  # noqa: PLW0603 - a thread does not come along into a child process
    _broadcaster = _Broadcaster()


os.register_at_fork(after_in_child=_start_anew)
atexit.register(flush)
worker_process_shutdown.connect(lambda **_kwargs: flush(), weak=False)
