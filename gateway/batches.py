"""Deletes old rows a batch at a time, so that no transaction is long, however many there are."""

from typing import Any

from django.db.models import QuerySet


def delete_in_batches(rows: QuerySet[Any], *, batch: int = 1000) -> int:
    """Delete these rows and what depends on them, `batch` per transaction. Return how many they were.

    Two at once do not disturb each other, and one that dies midway has done a part.
    """
    deleted = 0
    while ids := list(rows.values_list("pk", flat=True)[:batch]):
        rows.filter(pk__in=ids).delete()  # not those that are no longer among them
        deleted += len(ids)
    return deleted
