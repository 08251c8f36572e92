"""What a service must not lose when it is killed: one SQLite file per service."""

from __future__ import annotations

import json
import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SCHEMA = """
CREATE TABLE IF NOT EXISTS records (
    sequence INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    body TEXT NOT NULL,
    searchable TEXT NOT NULL DEFAULT '',
    UNIQUE (kind, id)
);
CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS works (sequence INTEGER PRIMARY KEY, key TEXT);
"""


class Store:
    """Records (JSON text by kind and id), remembered answers, and the count of works.

    Calls are synchronous on purpose: each takes microseconds, and a service that never awaits inside a
    transaction needs no locks of its own.
    """

    def __init__(self, database: Path | str) -> None:
        # Autocommit: a transaction is opened where one is meant, by `transaction()`.
        self._connection = sqlite3.connect(database, isolation_level=None, timeout=5)
        self._connection.execute("PRAGMA journal_mode = WAL")
        # NORMAL survives a killed process, not a power cut: the right price for a stand-in.
        self._connection.execute("PRAGMA synchronous = NORMAL")
        self._connection.executescript(SCHEMA)

    @classmethod
    def open(cls, state_dir: Path | None, service: str) -> Self:
        if state_dir is None:
            return cls(":memory:")
        state_dir.mkdir(parents=True, exist_ok=True)
        return cls(state_dir / f"{service}.sqlite3")

    def close(self) -> None:
        self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Keep all that is written inside, or nothing; inside another one it is part of that one."""
        if self._connection.in_transaction:
            yield
            return
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    def put(self, kind: str, identity: str, body: str, *, searchable: str = "") -> None:
        self._connection.execute(
            "INSERT INTO records (kind, id, body, searchable) VALUES (?, ?, ?, ?) "
            "ON CONFLICT (kind, id) DO UPDATE SET body = excluded.body, searchable = excluded.searchable",
            (kind, identity, body, searchable),
        )

    def get(self, kind: str, identity: str) -> str | None:
        row = self._connection.execute(
            "SELECT body FROM records WHERE kind = ? AND id = ?", (kind, identity)
        ).fetchone()
        return None if row is None else str(row[0])

    def records(self, kind: str) -> list[tuple[str, str]]:
        """Return (id, body) of every record of the kind, oldest first."""
        rows = self._connection.execute("SELECT id, body FROM records WHERE kind = ? ORDER BY sequence", (kind,))
        return [(str(identity), str(body)) for identity, body in rows]

    def delete(self, kind: str, identity: str | None = None) -> None:
        self._connection.execute("DELETE FROM records WHERE kind = ? AND id = coalesce(?, id)", (kind, identity))

    def search(self, kind: str, words: list[str]) -> Iterator[str]:
        """Yield the bodies whose searchable text has every word, newest first."""
        # The words travel as one JSON parameter, so their number needs no SQL built from text.
        rows = self._connection.execute(
            "SELECT body FROM records WHERE kind = ? AND NOT EXISTS ("
            "SELECT 1 FROM json_each(?) WHERE instr(records.searchable, value) = 0) ORDER BY sequence DESC",
            (kind, json.dumps(words)),
        )
        for (body,) in rows:
            yield str(body)

    def once(self, key: str | None, work: Callable[[], str]) -> tuple[str, bool]:
        """Do the work and return its answer; for a key already seen return that answer again.

        Work, count and answer are kept together: after a crash either all of it has happened or nothing.
        The second value says whether the work was done now.
        """
        with self.transaction():
            if key is not None:
                row = self._connection.execute("SELECT body FROM answers WHERE key = ?", (key,)).fetchone()
                if row is not None:
                    return str(row[0]), False
            answer = work()
            self._connection.execute("INSERT INTO works (key) VALUES (?)", (key,))
            if key is not None:
                self._connection.execute("INSERT INTO answers (key, body) VALUES (?, ?)", (key, answer))
            return answer, True

    def every_time(self, key: str | None, work: Callable[[], str]) -> str:
        """Do the work and return its answer, whatever was done for the key before; it is only counted."""
        with self.transaction():
            answer = work()
            self._connection.execute("INSERT INTO works (key) VALUES (?)", (key,))
            return answer

    def count_works(self) -> int:
        return int(self._connection.execute("SELECT count(*) FROM works").fetchone()[0])

    def works_by_key(self) -> dict[str, int]:
        rows = self._connection.execute(
            "SELECT key, count(*) FROM works WHERE key IS NOT NULL GROUP BY key ORDER BY min(sequence)"
        )
        return {str(key): int(count) for key, count in rows}
