"""The history of somebody's commands: filters, and pages that take as long in a million commands as in a thousand."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, Self
from uuid import UUID

from django.core.exceptions import FullResultSet
from django.db import DEFAULT_DB_ALIAS, connection
from django.db.models import QuerySet, UUIDField

from commands.models import Command
from commands.search import HasTag, with_text
from commands.states import TERMINAL, Status
from files.models import StoredFile
from gateway.ids import first_id_at
from gateway.rows import columns, fetch

# How many of the commands next in line are looked at one by one: the first, and at most as many as these say will have
# a page of what is wanted. What is rarer than that, an index finds.
NEAR, FAR = 500, 20_000
FIRST_PIECE, PIECE = 100, 1000  # of a file: the first is small, so that it begins soon
NOBODY = UUID(int=0)
# An id says when it was made, which is a moment before `created_at`.
CLOCKS = timedelta(minutes=1)
FILES = ("alt_file", "last_file", "atlas_file")

# Of so many commands next in line those that are wanted; if each is given its `place`, also the one behind them all.
# For the planner they could be of two users, one of whom does not exist, and begin anywhere: it sees no values there.
# Otherwise it might take the primary key, and go through what all others have sent meanwhile.
_IN_LINE = """
SELECT {columns}, place FROM (
    SELECT *, {place} AS place FROM commands_command
    WHERE user_id IN (%s, %s) AND only_stage IS NULL{line}
    WINDOW line AS (ORDER BY {order}) ORDER BY {order} LIMIT {number} + 1
) commands_command WHERE place > {number} OR ({wanted}) ORDER BY {order}{limit}"""
_PLACE, _NO_PLACE = "ROW_NUMBER() OVER line", "0"  # to count them takes twice as long as to read them
# In an order that no index has, so that none is gone along. The search's own index (migration 0012) holds what has
# ended; what has not is found by its status.
_BY_INDEX = """
SELECT {columns} FROM commands_command
WHERE user_id = %s AND only_stage IS NULL{line} AND ({wanted}) AND (finished_at IS NOT NULL OR status IN ({busy}))
ORDER BY CAST(id AS TEXT){down} LIMIT {limit}"""
_FILES = "SELECT {columns} FROM files_storedfile WHERE id IN ({keys})"
_BUSY = ", ".join(f"'{status}'" for status in sorted(set(Status) - TERMINAL))
_SIGNS = {"id__lt": "<", "id__lte": "<=", "id__gt": ">", "id__gte": ">="}
_Begin = dict[str, Any]  # one of these, and an id
_Rows = list[tuple[Command, tuple[Any, ...]]]


@dataclass(frozen=True, kw_only=True)
class CommandFilters:
    """What must hold for a command: all of it. What is empty says nothing."""

    status: frozenset[str] = frozenset()
    mode: frozenset[str] = frozenset()
    persona: str = ""
    tags: frozenset[str] = frozenset()
    text: str = ""
    created_after: datetime | None = None
    created_before: datetime | None = None

    def apply(self, commands: QuerySet[Command]) -> QuerySet[Command]:
        """Return those of the commands for which they hold."""
        if self.status:
            commands = commands.filter(status__in=sorted(self.status))
        if self.mode:
            commands = commands.filter(mode__in=sorted(self.mode))
        if self.persona:
            commands = commands.filter(persona=self.persona)
        for tag in sorted(self.tags):
            commands = commands.filter(HasTag(tag))
        if self.created_after:
            commands = commands.filter(created_at__gte=self.created_after)
        if self.created_before:
            commands = commands.filter(created_at__lt=self.created_before)
        return with_text(commands, self.text) if self.text else commands

    @cached_property
    def condition(self) -> tuple[str, Sequence[Any]]:
        """The same as a part of a statement, with its values."""
        query = self.apply(Command.objects.all()).query
        try:
            statement, values = query.get_compiler(DEFAULT_DB_ALIAS).compile(query.where)
        except FullResultSet:
            return "1 = 1", ()
        return statement, values

    @cached_property
    def ids(self) -> dict[str, UUID]:
        """What the times say of the ids, which have an index."""
        since, until = self.created_after, self.created_before
        return {
            **({"id__gte": first_id_at(since - CLOCKS)} if since else {}),
            **({"id__lt": first_id_at(until + CLOCKS)} if until else {}),
        }

    @property
    def are_in_order_by_an_index(self) -> bool:
        """Whether an index holds little but what they let through, in the order of the ids."""
        return not (self.mode or self.persona or self.tags or self.text or len(self.status) > 1)


def command_history(*, user_id: UUID, filters: CommandFilters) -> "CommandHistory":
    """Return somebody's commands; without the steps by themselves."""
    return CommandHistory(user_id, filters)


class CommandHistory:
    """What gateway.api.pagination pages through: `order_by` and `filter` by the id, and then a slice.

    No one statement is quick for all filters. In the order of the ids one finds at once what is frequent, but would go
    through everything to find nothing; an index finds what is rare, but would have to sort a million of what is
    frequent. And the planner can only guess which it is, from what all people send. So a page looks at the NEAR
    commands next in line, then at as many as it seems to need, and asks the index for what is too rare for that.
    The statements are written here, as Django takes longer to build one than the database to do it.
    """

    def __init__(self, user_id: UUID, filters: CommandFilters, ordering: str = "-id", **begin: Any) -> None:
        self._user_id, self._filters, self.ordering, self._begin = user_id, filters, ordering, begin
        self._is_down = ordering == "-id"
        self._along = ("id__lt", "id__lte") if self._is_down else ("id__gt", "id__gte")

    def order_by(self, ordering: str) -> Self:
        return type(self)(self._user_id, self._filters, ordering, **self._begin)

    def filter(self, **begin: Any) -> Self:
        """Return what comes behind an id, in this order."""
        return type(self)(self._user_id, self._filters, self.ordering, **begin)

    def __getitem__(self, wanted: slice) -> list[Command]:
        """Return these commands, with their files."""
        near = max(NEAR, wanted.stop)
        page, rest = self._next(self._begin, near, wanted.stop)
        while rest and self._filters.are_in_order_by_an_index:
            more, rest = self._next(rest, near, wanted.stop - len(page))
            page += more
        needed = near * (wanted.stop - len(page)) // max(len(page), 1)
        if rest and page and needed <= FAR:
            # Up to thrice as many, as by chance the first may have had more; it ends when the page is full.
            rows = self._in_line(rest, min(3 * needed, FAR), wanted.stop - len(page), _NO_PLACE)
            page += [command for command, _place in rows]
            rest = {"id__lt" if self._is_down else "id__gt": page[-1].id}
        if rest and len(page) < wanted.stop:
            page += self._by_index(rest, wanted.stop - len(page))
        return _with_files(page[wanted.start :])

    def pieces(self) -> Iterator[list[Command]]:
        """Yield all of them, without their files: a few at a time, and some of these times none."""
        piece, rest = self._next(self._begin, FIRST_PIECE)
        yield piece
        while rest:
            piece, rest = self._next(rest, PIECE)
            yield piece

    def _next(self, begin: _Begin, number: int, most: int | None = None) -> tuple[list[Command], _Begin | None]:
        """Return at most so many of what is wanted among the commands next in line, and where the others begin.

        That is nowhere if there are no others, or enough of them are found.
        """
        rows, rest = self._in_line(begin, number, most, _PLACE), None
        if rows and rows[-1][1][0] > number:
            edge = rows.pop()[0].id
            ends = [value for lookup, value in self._filters.ids.items() if lookup not in self._along]
            if all((edge >= end) == self._is_down for end in ends):
                rest = {"id__lte" if self._is_down else "id__gte": edge}
        return [command for command, _place in rows], rest

    def _in_line(self, begin: _Begin, number: int, most: int | None, place: str) -> _Rows:
        bounds = {lookup: value for lookup, value in {**self._filters.ids, **begin}.items() if lookup in self._along}
        line = "".join(f" AND id {_SIGNS[lookup]} (SELECT %s)" for lookup in bounds)
        values = [_stored(each) for each in (self._user_id, NOBODY, *bounds.values())]
        if len(self._filters.status) == 1:  # an index has these alone, in order
            line, values = f"{line} AND status = %s", [*values, *self._filters.status]
        limit = f" LIMIT {most}" if most else ""
        return self._rows(_IN_LINE, values, line=line, number=number, place=place, limit=limit)

    def _by_index(self, begin: _Begin, most: int) -> list[Command]:
        bounds = {**self._filters.ids, **begin}
        line = "".join(f" AND id {_SIGNS[lookup]} %s" for lookup in bounds)
        values = [_stored(each) for each in (self._user_id, *bounds.values())]
        return [command for command, _ in self._rows(_BY_INDEX, values, line=line, limit=most, busy=_BUSY)]

    def _rows(self, statement: str, values: list[Any], **parts: Any) -> _Rows:
        down, up = (" DESC", "") if self._is_down else ("", " DESC")
        wanted, more = self._filters.condition
        parts |= {"columns": columns(Command), "wanted": wanted, "order": f"user_id{up}, id{down}", "down": down}
        return fetch(Command, statement.format(**parts), [*values, *more])


def _with_files(commands: list[Command]) -> list[Command]:
    keys = [key for command in commands for name in FILES if (key := getattr(command, f"{name}_id"))]
    files: dict[UUID, StoredFile] = {}
    if keys:
        statement = _FILES.format(columns=columns(StoredFile), keys=", ".join(["%s"] * len(keys)))
        files = {file.id: file for file, _ in fetch(StoredFile, statement, [_stored(key) for key in keys])}
    for command in commands:
        for name in FILES:
            setattr(command, name, files.get(getattr(command, f"{name}_id")))
    return commands


def _stored(value: UUID | str) -> Any:
    return UUIDField().get_db_prep_value(value, connection)
