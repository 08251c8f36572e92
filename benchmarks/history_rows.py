"""Makes commands by the million, as if people had sent them for a year: by COPY, in a few minutes.

Indexes are built, and foreign keys checked, once all rows are there: row by row, that takes most of the time.
"""

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models import AutoField, Model

from commands.models import Command, CommandEvent, CommandResult, Mode, Outcome, StageRun
from commands.states import Stage, Status
from files.models import Kind, StoredFile

SPAN = timedelta(days=365)
BATCH = 10_000
COMPLETE_EVERY = 5  # so many commands have one that comes with its files, tries, events and result
RARE_WORD, RARE_EVERY = "zümrüdüanka", 100_000
COMMON_WORD = "rapor"
UNCOMMON_WORD = "istanbul sube"  # in one of 88
# How the commands are spread over the people: the first has half of them all, the last ten of a million.
SHARES = (500_000, 750_000, 900_000, 970_000, 999_990, 1_000_000)  # added up
SENTENCES = (
    "{noun} için haftalık rapor hazırla ve {place} ekibine gönder",
    "{place} sunucusundaki {noun} dosyalarını listele",
    "Summarize the {noun} report of {place} in five sentences",
    "echo {noun} {number}",
    "calc {number}*{number} ve ardından sonucu {place} klasörüne yaz",
    "Translate the {noun} of {place} into Turkish, then check the {noun} again",
    "{place} şubesinin {noun} verilerini güncelle, {number} kaydı karşılaştır",
    "Find every {noun} older than {number} days and archive it in {place}",
)
NOUNS = (
    "fatura", "müşteri", "sipariş", "bütçe", "ölçüm", "günlük", "çizelge", "invoice", "customer", "order", "budget",
    "log", "backup", "sensor", "image", "sözleşme", "katalog", "ürün", "stok", "kargo", "payment", "ticket", "photo",
)  # fmt: skip
PLACES = ("İstanbul", "Iğdır", "Ankara", "İzmir", "Şırnak", "Çorum", "Düzce", "London", "Berlin", "Oslo", "Lagos")
TAGS = ("[]", "[]", "[]", '["finans"]', '["rapor", "günlük"]', '["nightly"]', '["import", "customer-7"]', '["acil"]')
MODES = (*[Mode.NORMAL] * 16, Mode.DREAM, Mode.EXPLORE, Mode.EXPLORE, Mode.CHAOS)
COMPLETED, NOT_CANCELLED = 0.93, 0.98  # of all
NULL = r"\N"
PERSONAS = ("technical_expert", "technical_expert", "technical_expert", "teacher", "poet", "lawyer")
FAILURES = ("runner_timeout", "segmentation_invalid", "deadline_passed", "archive_unavailable")
STEPS = (Status.QUEUED, Status.SEGMENTING, Status.RUNNING, Status.ARCHIVING, Status.COMPLETED)


class Rows:
    """Rows of one table that wait to be copied: some columns vary, any other has a constant or its field's default."""

    def __init__(self, model: type[Model], varying: str, **constants: Any) -> None:
        self.table = model._meta.db_table  # noqa: SLF001 - what fields are for
        self.lines: list[str] = []
        self.columns: list[str] = varying.split()
        fields = {field.column: field for field in model._meta.concrete_fields if field.column}  # noqa: SLF001
        fixed: dict[str, Any] = {}
        for column, field in fields.items():
            if column not in self.columns and not isinstance(field, AutoField):
                fixed[column] = constants[column] if column in constants else _default(field)
        cells = ["%s"] * len(self.columns) + [_cell(value) for value in fixed.values()]
        self._line = "\t".join(cells) + "\n"
        self.columns += fixed

    def add(self, *values: Any) -> None:
        self.lines.append(self._line % values)

    def copy(self) -> None:
        names = ", ".join(connection.ops.quote_name(column) for column in self.columns)
        with connection.cursor() as cursor, cursor.copy(f"COPY {self.table} ({names}) FROM STDIN") as copy:
            copy.write("".join(self.lines))
        self.lines.clear()


def _default(field: Any) -> Any:
    if field.null or field.has_default():
        return field.get_default()
    return "" if field.empty_strings_allowed else 0


def _cell(value: Any) -> str:
    if value is None:
        return NULL
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    return {True: "t", False: "f"}[value] if isinstance(value, bool) else str(value)


# What is not needed while rows come, by the oid of a table: how it is dropped, and made again. What a partitioned
# table has, it shares with its partitions.
FOREIGN_KEYS = """
SELECT format('ALTER TABLE %%s DROP CONSTRAINT %%I', conrelid::regclass, conname),
    format('ALTER TABLE %%s ADD CONSTRAINT %%I %%s', conrelid::regclass, conname, pg_get_constraintdef(oid))
FROM pg_constraint WHERE contype = 'f' AND conparentid = 0 AND conrelid = ANY(%s::regclass[])
"""
INDEXES = """
SELECT format('DROP INDEX %%s', indexrelid::regclass), pg_get_indexdef(indexrelid)
FROM pg_index WHERE NOT indisunique AND indrelid = ANY(%s::regclass[])
"""


@contextmanager
def _set_aside(cursor: Any, tables: list[str]) -> Iterator[None]:
    """Do without the foreign keys and the indexes of these tables, and make them again at the end."""
    found: list[tuple[str, str]] = []
    for query in (FOREIGN_KEYS, INDEXES):
        cursor.execute(query, [tables])
        found += cursor.fetchall()
    for drop, _make in found:
        cursor.execute(drop)
    yield
    cursor.execute("SET maintenance_work_mem = '256MB'")
    for _drop, make in reversed(found):
        cursor.execute(make)


class History:
    """Makes the same rows whenever it is made anew, but for the time at which they end."""

    def __init__(self, people: list[UUID], until: datetime) -> None:
        self.people, self.until = people, until
        self.chance = random.Random(5)  # noqa: S311 - nothing secret
        self.commands = Rows(
            Command,
            "id user_id text mode persona tags status error_code created_at started_at finished_at alt_file_id "
            "last_file_id atlas_file_id",
            last_seq=len(STEPS),
            progress=100,
        )
        self.files = Rows(StoredFile, "id owner_id kind name created_at", size=1000, sha256="0" * 64, content="none")
        self.runs = Rows(
            StageRun,
            "id command_id stage idempotency_key started_at finished_at",
            attempt=1,
            instance="http://bench",
            outcome=Outcome.SUCCEEDED,
        )
        self.events = Rows(CommandEvent, "command_id seq event status at broadcast_at", progress=20)
        self.results = Rows(CommandResult, "command_id", success_rate=1.0, summary="2 of 2 tasks", output="Merhaba")
        self.tables = self.files, self.commands, self.runs, self.events, self.results

    def fill(self, number: int) -> None:
        """Make so many commands, spread over SPAN, and let the database know what it has."""
        tables = [rows.table for rows in self.tables]
        with connection.cursor() as cursor:
            cursor.execute("SET synchronous_commit = off")
            with _set_aside(cursor, tables):
                for each in range(1, number + 1):
                    self._command(each, self.until - SPAN * (number - each) / number)
                    if each % BATCH == 0 or each == number:
                        for rows in self.tables:
                            rows.copy()
            cursor.execute(f"VACUUM ANALYZE {', '.join(tables)}")

    def _id(self, milliseconds: int) -> str:
        """Return an id (UUIDv7) that was made then."""
        bits = self.chance.getrandbits(74)
        return f"{milliseconds:012x}7{bits >> 62:03x}{8 | bits >> 60 & 3:x}{bits & (1 << 60) - 1:015x}"

    def _command(self, number: int, created_at: datetime) -> None:
        chance, milliseconds = self.chance, int(created_at.timestamp() * 1000)
        command_id, luck = self._id(milliseconds), chance.random()
        user_id = chance.choices(self.people, cum_weights=SHARES)[0]
        finished_at = created_at + timedelta(seconds=chance.lognormvariate(1, 1.2))
        status = Status.COMPLETED if luck < COMPLETED else Status.FAILED if luck < NOT_CANCELLED else Status.CANCELLED
        error = chance.choice(FAILURES) if status is Status.FAILED else ""
        times, files = (created_at, created_at, finished_at), [NULL] * len(Kind)
        if number % COMPLETE_EVERY == 0 and status is Status.COMPLETED:
            files = [self._id(milliseconds) for _ in Kind]
            self._details(command_id, user_id, files, created_at, finished_at)
        mode, persona, tags = chance.choice(MODES), chance.choice(PERSONAS), chance.choice(TAGS)
        self.commands.add(command_id, user_id, self._text(number), mode, persona, tags, status, error, *times, *files)

    def _text(self, number: int) -> str:
        noun, place, some = self.chance.choice(NOUNS), self.chance.choice(PLACES), self.chance.randrange(10_000)
        text = self.chance.choice(SENTENCES).format(noun=noun, place=place, number=some)
        return f"{text} {RARE_WORD}" if number % RARE_EVERY == 1 else text

    def _details(self, command_id: str, user_id: UUID, files: list[str], since: datetime, until: datetime) -> None:
        """Make what a completed command leaves."""
        for file_id, kind in zip(files, Kind, strict=True):
            self.files.add(file_id, user_id, kind, f"{command_id}.{kind}", since)
        for stage in Stage:
            milliseconds = int(since.timestamp() * 1000)
            self.runs.add(self._id(milliseconds), command_id, stage, f"{command_id}:{stage}", since, until)
        for seq, status in enumerate(STEPS, start=1):
            self.events.add(command_id, seq, status, status, since, since)
        self.results.add(command_id)
