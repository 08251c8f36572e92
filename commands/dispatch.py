"""Wakes the workers of a stage. By name, so that services need not import the tasks that work.

A message says only that there is something to do: whoever gets it asks the database what comes next (commands.queue).
Each stage has a queue and workers of its own: a service that hangs holds those of its stage and no others.
"""

import logging
import math
import os
import threading
import time
from contextlib import suppress

from celery import current_app
from django.db import transaction

from commands.states import Stage

logger = logging.getLogger(__name__)

# One message wakes a worker for all that is due. So no process sends a stage more than one in so many seconds.
GAP = 0.02
# By then the sweep has sent another: messages that nobody takes up must not pile up.
EXPIRES = 5.0


def wake(stage: Stage, *, delay: float = 0) -> None:
    """Let a worker of the stage look what is due, `delay` seconds from now. Never waits, never raises.

    What is lost, with the message or with this process, costs time only: the sweep wakes every stage that has
    something due.
    """
    publisher.want(stage, delay=delay)


def wake_on_commit(stage: Stage) -> None:
    # Robust: what goes wrong after the commit must not look like a failure of what was committed.
    transaction.on_commit(lambda: wake(stage), robust=True)


def send(stage: Stage) -> None:
    """Send the message now."""
    try:
        current_app.send_task("commands.tasks.advance", args=[str(stage)], queue=str(stage), expires=EXPIRES)
    except Exception as error:  # noqa: BLE001 - whatever it is, the sweep sends another
        logger.warning("no message to the workers of %s, the sweep will send one: %r", stage, error)


class Publisher:
    """Sends what is wanted from a thread of its own, since a message takes longer to send than a command to store.

    Wakes that lie ahead wait here and not in the broker, which would keep each until its time; RabbitMQ delays by whole
    seconds only.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._wanted: set[tuple[float, Stage]] = set()  # when, by time.monotonic()
        self._sent_at: dict[Stage, float] = {}
        self._thread: threading.Thread | None = None

    def want(self, stage: Stage, *, delay: float = 0) -> None:
        with self._changed:
            at = self._sent_at.get(stage, -GAP) + GAP  # at once, if that is over
            if delay > 0:  # to the end of the GAP that it lies in, where others may be
                at = max(at, math.ceil((time.monotonic() + delay) / GAP) * GAP)
            if (at, stage) in self._wanted:
                return
            self._wanted.add((at, stage))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="wake", daemon=True)
                with suppress(RuntimeError):  # the process is about to end
                    self._thread.start()
            self._changed.notify()

    def _run(self) -> None:
        while True:
            send(self._next())

    def _next(self) -> Stage:
        """Wait until a stage is to be woken, and return it."""
        with self._changed:
            while True:
                now = time.monotonic()
                at, stage = min(self._wanted, default=(math.inf, None))
                if stage is not None and at <= now:
                    self._wanted = {(when, other) for when, other in self._wanted if other != stage or when > now}
                    self._sent_at[stage] = now
                    return stage
                self._changed.wait(None if stage is None else at - now)


publisher = Publisher()


def _start_anew() -> None:
    """A child process has no thread of its parent's, and what it wanted the parent sends."""
    global publisher  # noqa: PLW0603 - the one of this process
    publisher = Publisher()


os.register_at_fork(after_in_child=_start_anew)
