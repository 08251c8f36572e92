"""How commands are found in a list of millions: each filter by an index, or among what has not finished."""

from datetime import timedelta
from typing import Any

from django.db.models import Exists, OuterRef, Q, QuerySet, Value
from django.db.models.functions import Lower
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.models import User
from commands.failures import FAILURES
from commands.models import Command, Outcome, StageRun
from commands.search import SEARCHABLE, Folded
from commands.states import TERMINAL, Stage
from gateway.admin.theme import ChoicesDropdownFilter, DropdownFilter, RadioFilter
from integrations.clients.errors import Reason

OVERDUE = timedelta(minutes=5)


class UnfinishedFilter(RadioFilter):
    """By an index that holds only what has not finished."""

    title = _("finished")
    parameter_name = "finished"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("no", _("No")), ("yes", _("Yes"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Command]) -> QuerySet[Command]:
        if self.value() in ("no", "yes"):
            return queryset.filter(finished_at__isnull=self.value() == "no")
        return queryset


class TroubleFilter(RadioFilter):
    """What may need somebody."""

    title = _("in trouble")
    parameter_name = "trouble"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("failing", _("a try failed, or its service does not answer")), ("overdue", _("due for 5 minutes"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Command]) -> QuerySet[Command]:
        if self.value() == "failing":
            return queryset.filter(_is_failing(), finished_at=None)
        if self.value() == "overdue":
            return queryset.filter(due_at__lt=timezone.now() - OVERDUE, finished_at=None)
        return queryset


def _is_failing() -> Exists:
    """The latest try of the present stage failed, though not because its service was busy; or it gets no answer."""
    later = StageRun.objects.filter(
        command=OuterRef("command"), stage=OuterRef("stage"), attempt__gt=OuterRef("attempt")
    )
    bad = Q(unanswered_since__isnull=False, finished_at=None) | Q(outcome__in=[Outcome.FAILED, Outcome.ABANDONED])
    tries = StageRun.objects.filter(bad, command=OuterRef("pk"), stage=OuterRef("stage"))
    return Exists(tries.exclude(error_code__endswith=f"_{Reason.BUSY}").exclude(Exists(later)))


class StepFilter(RadioFilter):
    """Whole commands, or steps by themselves."""

    title = _("step by itself")
    parameter_name = "step"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("no", _("No")), *Stage.choices]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Command]) -> QuerySet[Command]:
        value = self.value()
        if value == "no":
            return queryset.filter(only_stage=None)
        # The second condition says nothing new, but by it an index of steps is found.
        return queryset.filter(only_stage=value, only_stage__isnull=False) if value in Stage.values else queryset


class StatusFilter(ChoicesDropdownFilter):
    """What goes on is looked for among what has not finished."""

    def queryset(self, request: HttpRequest, queryset: QuerySet[Command]) -> QuerySet[Command]:
        found: QuerySet[Command] = super().queryset(request, queryset)
        return found.filter(finished_at=None) if self.value() and self.value() not in TERMINAL else found


class StageFilter(ChoicesDropdownFilter):
    """Of what has ended, the stage is empty."""

    def queryset(self, request: HttpRequest, queryset: QuerySet[Command]) -> QuerySet[Command]:
        found: QuerySet[Command] = super().queryset(request, queryset)
        return found.filter(finished_at=None) if self.value() else found


class ErrorCodeFilter(DropdownFilter):
    title = _("error code")
    parameter_name = "error_code"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [(code, code) for code in sorted(FAILURES)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Command]) -> QuerySet[Command]:
        return queryset.filter(error_code=self.value()) if self.value() in FAILURES else queryset


def searched(commands: QuerySet[Command], text: str) -> QuerySet[Command]:
    """Return the commands of the user of this name or address, and those whose text holds this one.

    A text that is too short for an index of trigrams is not looked for.
    """
    name = text.lower()
    people = User.objects.alias(name=Lower("username"), address=Lower("email")).filter(Q(name=name) | Q(address=name))
    found = Q(user__in=list(people.values_list("pk", flat=True)))
    if SEARCHABLE.search(text):
        holds_it = Q(folded__contains=Folded(Value(text)))
        # Each part by an index of its own: that of the texts holds only what has ended.
        found |= Q(holds_it, finished_at__isnull=False) | Q(holds_it, finished_at__isnull=True)
    return commands.alias(folded=Folded("text")).filter(found)
