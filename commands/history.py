"""The history of somebody's commands: filters, and pages that take as long in a million commands as in a thousand."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Self
from uuid import UUID

from django.db.models import Q, QuerySet, TextField
from django.db.models.functions import Cast

from commands.models import Command
from commands.search import HasTag, with_text
from commands.states import TERMINAL, Status
from gateway.ids import first_id_at

# How many of the commands next in line are looked at one by one: the first, and at most as many as these say will have
# a page of what is wanted. Of what is rarer than that there is little: an index finds it all.
NEAR, FAR = 500, 10_000
FIRST_PIECE, PIECE = 100, 1000  # of a file: the first is small, so that it begins soon
NOBODY = UUID(int=0)
# An id says when it was made, which is a moment before `created_at`.
CLOCKS = timedelta(minutes=1)


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
        return self.of_kind(self.of_time(commands))

    def of_kind(self, commands: QuerySet[Command]) -> QuerySet[Command]:
        """Return those for which hold all that do not ask for the time."""
        if self.status:
            commands = commands.filter(status__in=sorted(self.status))
        if self.mode:
            commands = commands.filter(mode__in=sorted(self.mode))
        if self.persona:
            commands = commands.filter(persona=self.persona)
        for tag in sorted(self.tags):
            commands = commands.filter(HasTag(tag))
        return with_text(commands, self.text) if self.text else commands

    def of_time(self, commands: QuerySet[Command]) -> QuerySet[Command]:
        """Return those made from `created_after` on and before `created_before`; by the id too, which has an index."""
        if self.created_after:
            since = first_id_at(self.created_after - CLOCKS)
            commands = commands.filter(id__gte=since, created_at__gte=self.created_after)
        if self.created_before:
            until = first_id_at(self.created_before + CLOCKS)
            commands = commands.filter(id__lt=until, created_at__lt=self.created_before)
        return commands

    @property
    def are_in_order_by_an_index(self) -> bool:
        """Whether an index holds just what they let through, in the order of the ids."""
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
    """

    def __init__(self, user_id: UUID, filters: CommandFilters, ordering: str = "-id", **by_id: Any) -> None:
        self._user_id, self._filters, self.ordering, self._by_id = user_id, filters, ordering, by_id

    def order_by(self, ordering: str) -> Self:
        return type(self)(self._user_id, self._filters, ordering, **self._by_id)

    def filter(self, **by_id: Any) -> Self:
        return type(self)(self._user_id, self._filters, self.ordering, **{**self._by_id, **by_id})

    def __getitem__(self, wanted: slice) -> list[Command]:
        """Return these commands, with their files."""
        if self._filters.are_in_order_by_an_index:
            return list(_with_files(self._filters.of_kind(self._in_order()))[wanted])
        page, is_whole = self._page(NEAR, wanted)
        if page and not is_whole:
            size = wanted.stop - (wanted.start or 0)
            needed = NEAR * size * 3 // (2 * len(page))  # half as many again: the next ones may have fewer
            if needed <= FAR:
                page, is_whole = self._page(needed, wanted)
        if is_whole:
            return page
        ids = self._found_by_index()[wanted].values("id")
        return list(_with_files(Command.objects.filter(id__in=ids)).order_by(self.ordering))

    def _page(self, near: int, wanted: slice) -> tuple[list[Command], bool]:
        """Return what a page has of so many commands next in line, and whether there is no more of it."""
        edge = self._edge(near)
        page = list(_with_files(self._near(edge))[wanted])
        return page, edge is None or len(page) == wanted.stop - (wanted.start or 0)

    def pieces(self) -> Iterator[list[Command]]:
        """Yield all of them, without their files: a few at a time, and some of these times none."""
        beyond = "id__lt" if self.ordering == "-id" else "id__gt"
        edge, rest = self._edge(FIRST_PIECE), self
        while edge is not None:
            yield list(rest._near(edge))
            rest = self.filter(**{beyond: edge})
            edge = rest._edge(PIECE)  # noqa: SLF001 - the same
        yield list(rest._near(None))  # noqa: SLF001 - the same

    def _edge(self, near: int) -> UUID | None:
        """Return the id of the last of so many commands next in line, None if there are not even these."""
        ids = self._in_order().values_list("id", flat=True)
        return next(iter(ids[near - 1 : near]), None)

    def _near(self, edge: UUID | None) -> QuerySet[Command]:
        rows = self._filters.of_kind(self._in_order())
        return rows if edge is None else rows.filter(**{"id__gte" if self.ordering == "-id" else "id__lte": edge})

    def _in_order(self) -> QuerySet[Command]:
        """Return what the cursor and the time leave, to be gone along by an index that begins with the user.

        For the planner it could be of two users, one of whom does not exist. Otherwise it might take the primary key,
        for the same order, and go through what all others have sent since this one last did.
        """
        rows = self._filters.of_time(Command.objects.filter(user_id__in=(self._user_id, NOBODY)))
        ordering = ("user_id", "-id") if self.ordering == "-id" else ("-user_id", "id")
        return rows.filter(only_stage=None, **self._by_id).order_by(*ordering)

    def _found_by_index(self) -> QuerySet[Command]:
        """Return what is asked for in an order that no index has, so that none is gone along.

        The search's own index (migration 0012) holds what has ended; what has not is found by its status.
        """
        rows = self._filters.apply(Command.objects.filter(user_id=self._user_id, only_stage=None, **self._by_id))
        indexed = Q(finished_at__isnull=False) | Q(status__in=sorted(set(Status) - TERMINAL))
        by_text = Cast("id", TextField())
        return rows.filter(indexed).order_by(by_text.desc() if self.ordering == "-id" else by_text.asc())


def _with_files(commands: QuerySet[Command]) -> QuerySet[Command]:
    return commands.select_related("alt_file", "last_file", "atlas_file")
