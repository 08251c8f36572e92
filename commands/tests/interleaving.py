"""Threads that take turns as a schedule says, so that an interleaving of transactions can be repeated and shrunk.

Each thread is a process of the gateway: it has a database connection of its own, and its transactions are real. It
stops before each statement on a table of commands, after each that writes, and where the code under test calls a
service. Whoever holds the schedule says who goes on. A thread that PostgreSQL lets wait for a lock is left waiting, and
goes on by itself, to where it stops next, once the lock is free.
"""

import re
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Any

from django.db import connection, connections

LOOK_SECONDS = 0.004  # how soon a thread that does not stop is suspected to wait for a lock
STUCK_SECONDS = 20.0
BLOCKED = "SELECT pid FROM unnest(%s::int[]) AS pid WHERE cardinality(pg_blocking_pids(pid)) > 0"
WRITES = ("INSERT", "UPDATE", "DELETE", "WITH")
OURS = re.compile(r"\bcommands_\w+")


class Killed(BaseException):
    """Stands for a SIGKILL: nothing in the code catches it, and what was not committed is rolled back."""


class Turn:
    """One thread and its present job."""

    def __init__(self, reports: "SimpleQueue[Turn]") -> None:
        self.name = ""
        self.state = "idle"  # idle, paused, running
        self.at = ""  # where it is paused
        self.error: BaseException | None = None
        self.pid: int | None = None  # of its backend
        self.is_to_die = False
        self._reports = reports
        self._jobs: SimpleQueue[Callable[[], Any] | None] = SimpleQueue()
        self._go_on = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def begin(self, name: str, job: Callable[[], Any]) -> None:
        self.name, self.at, self.error, self.state, self.is_to_die = name, "its beginning", None, "paused", False
        self._jobs.put(job)

    def go_on(self) -> None:
        self.state = "running"
        self._go_on.release()

    def pause(self, at: str) -> None:
        """Stop until it is this one's turn; called by the thread itself."""
        self.at = at
        self._tell("paused")
        self._wait()

    def end(self) -> None:
        self._jobs.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                self._wait()
                if connection.vendor == "postgresql":
                    connection.ensure_connection()
                    self.pid = connection.connection.info.backend_pid
                with connection.execute_wrapper(self._statement):
                    job()
            except Killed:
                connection.close()
            except BaseException as error:  # noqa: BLE001 - it is for whoever holds the schedule
                self.error = error
            self._tell("idle")
        connections.close_all()

    def _wait(self) -> None:
        self._go_on.acquire()
        if self.is_to_die:
            raise Killed

    def _tell(self, state: str) -> None:
        self.state = state
        self._reports.put(self)

    def _statement(self, execute: Callable[..., Any], sql: str, params: Any, many: Any, context: Any) -> Any:
        # On SQLite, which has one writer at a time, whoever stops in a transaction stops everybody.
        if not OURS.search(sql) or connection.vendor != "postgresql":
            return execute(sql, params, many, context)
        self.pause(f"before {_in_short(sql)}")
        result = execute(sql, params, many, context)
        if sql.lstrip().startswith(WRITES) or "FOR UPDATE" in sql:
            self.pause(f"after {_in_short(sql)}")
        return result


class Turns:
    """The threads. It is used by one other thread, which holds the schedule."""

    def __init__(self, number: int) -> None:
        self._reports: SimpleQueue[Turn] = SimpleQueue()
        self._all = [Turn(self._reports) for _ in range(number)]
        self.trace: list[str] = []

    def begin(self, name: str, job: Callable[[], Any]) -> None:
        next(turn for turn in self._all if turn.state == "idle").begin(name, job)

    def pause(self, at: str) -> None:
        """Stop the thread that calls it, if it is one of these."""
        for turn in self._all:
            if turn._thread is threading.current_thread():
                turn.pause(at)

    def waiting(self) -> list[Turn]:
        """Return those that can go on, in an order that is the same each time."""
        return [turn for turn in self._all if turn.state == "paused"]

    def step(self, turn: Turn, *, dies: bool = False) -> None:
        """Let one go on to where it stops next, or die where it is."""
        self.trace.append(f"{turn.name}{' dies' if dies else ''} at {turn.at}")
        turn.is_to_die = dies
        turn.go_on()
        self._settle()

    def finish(self) -> None:
        """Let all go on to their ends, in turn."""
        while any(turn.state != "idle" for turn in self._all):
            waiting = self.waiting()
            if waiting:
                self.step(waiting[0])
            else:
                self._settle()

    def errors(self) -> list[BaseException]:
        return [turn.error for turn in self._all if turn.error is not None]

    def forget(self) -> None:
        self.trace.clear()
        for turn in self._all:
            turn.error = None

    def end(self) -> None:
        for turn in self._all:
            turn.end()

    def _settle(self) -> None:
        """Wait until each thread has stopped, or waits for a lock that one of the others holds."""
        looked = 0
        while running := [turn for turn in self._all if turn.state == "running"]:
            try:
                self._reports.get(timeout=LOOK_SECONDS)
            except Empty:
                # All of them in a ring: PostgreSQL ends that by itself, and one of them gets an error.
                if self.waiting() and self._blocked() >= {turn.pid for turn in running}:
                    return
                looked += 1
                assert looked < STUCK_SECONDS / LOOK_SECONDS, f"stuck: {[(turn.name, turn.at) for turn in running]}"

    def _blocked(self) -> set[int | None]:
        if connection.vendor != "postgresql":
            return set()
        pids = [turn.pid for turn in self._all if turn.state == "running"]
        with connection.cursor() as cursor:
            cursor.execute(BLOCKED, [pids])
            return {pid for (pid,) in cursor.fetchall()}


def _in_short(sql: str) -> str:
    verb = sql.split(maxsplit=1)[0]
    if verb == "SELECT" and "FOR UPDATE" in sql:
        verb = "SELECT FOR UPDATE"
    table = OURS.search(sql)
    return f"{verb} {table[0] if table else ''}"
