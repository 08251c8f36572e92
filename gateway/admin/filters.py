"""Filters of lists, in one look: a form with one button."""

from datetime import date, datetime, time, timedelta
from typing import Any
from uuid import UUID

from django.db.models import Model, Q, QuerySet, Value
from django.db.models.functions import Lower
from django.http import HttpRequest
from django.utils.formats import get_format
from django.utils.timezone import get_current_timezone
from django.utils.translation import gettext_lazy as _

from gateway.admin.theme import RangeDateFilter, TextFilter
from gateway.ids import first_id_at


class DaysFilter(RangeDateFilter):
    """From one day to another, both included. An unreadable day is no limit."""

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        first, last = (self._day(end) for end in ("from", "to"))
        bounds = Q()
        if first:
            bounds &= self.bound("gte", _start(first))
        if last and last < date.max:
            bounds &= self.bound("lt", _start(last + timedelta(days=1)))
        return queryset.filter(bounds)

    def bound(self, lookup: str, moment: datetime) -> Q:
        return Q(**{f"{self.field_path}__{lookup}": moment})

    def _day(self, end: str) -> date | None:
        text = str(self.used_parameters.get(f"{self.field_path}_{end}") or "")
        for form in ("%Y-%m-%d", *get_format("DATE_INPUT_FORMATS")):
            try:
                return datetime.strptime(text, form).date()  # noqa: DTZ007 - a day has no time zone
            except ValueError:
                continue
        return None


class CreationDaysFilter(DaysFilter):
    """The same for the time of creation, by the primary key: it is a UUIDv7, and begins with the time."""

    def bound(self, lookup: str, moment: datetime) -> Q:
        return Q(**{f"pk__{lookup}": first_id_at(moment)})


class UserFilter(TextFilter):
    """Of one person: by user name, e-mail address or id. `?user=` is what links from a user's page say."""

    title = _("user")
    parameter_name = "user"
    field = "user"

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        value = (self.value() or "").strip()
        if not value:
            return queryset
        # First who it is, so that the database knows of whom there is much, and of whom little.
        users = list(self._users(queryset.model, value).values_list("pk", flat=True))
        return queryset.filter(**{f"{self.field}__in": users})

    def _users(self, model: type[Model], value: str) -> QuerySet[Any]:
        users = model._meta.get_field(self.field).related_model._default_manager  # type: ignore[union-attr]  # noqa: SLF001 - documented API of models
        try:
            return users.filter(pk=UUID(value))
        except ValueError:
            wanted = Lower(Value(value))  # as the unique indexes have it; `iexact` compares capitals
            users = users.alias(name=Lower("username"), address=Lower("email"))
            return users.filter(Q(name=wanted) | Q(address=wanted))


class OwnerFilter(UserFilter):
    title = _("owner")
    field = "owner"


def _start(day: date) -> datetime:
    return datetime.combine(day, time(), get_current_timezone())
