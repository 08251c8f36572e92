"""The first page says what may need somebody. Each room adds its own figures."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse

if TYPE_CHECKING:
    from django_stubs_ext import StrOrPromise

COUNTED = 1000


@dataclass(frozen=True)
class Figure:
    """How many rows there are of a kind, and the query of the list that shows them. `alarming` if there are any."""

    title: "StrOrPromise"
    rows: QuerySet[Any]
    query: dict[str, str]
    alarming: bool = False

    def permission(self) -> str:
        options = self.rows.model._meta  # noqa: SLF001 - documented API of models
        return f"{options.app_label}.view_{options.model_name}"

    def shown(self) -> dict[str, Any]:
        options = self.rows.model._meta  # noqa: SLF001 - the same
        count = self.rows.order_by()[: COUNTED + 1].count()
        url = reverse(f"admin:{options.app_label}_{options.model_name}_changelist")
        return {
            "title": self.title,
            "text": f"{COUNTED}+" if count > COUNTED else str(count),
            "url": f"{url}?{urlencode(self.query)}",
            "is_alarm": self.alarming and count > 0,
        }


_sources: list[Callable[[], Iterator[Figure]]] = []


def figures(source: Callable[[], Iterator[Figure]]) -> Callable[[], Iterator[Figure]]:
    """Register a function that yields figures."""
    _sources.append(source)
    return source


def figures_for(request: HttpRequest) -> list[dict[str, Any]]:
    """Return the figures that this administrator may see."""
    user: Any = request.user
    return [figure.shown() for source in _sources for figure in source() if user.has_perm(figure.permission())]
