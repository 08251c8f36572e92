"""Lets SQLite tell names apart as PostgreSQL does: its own `lower` knows ASCII only, so `Çağla` and `ÇAĞLA` were two.

The unique indexes on user names and addresses use it, so every connection must have it.
"""

from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.dispatch import receiver


@receiver(connection_created)
def _know_all_letters(connection: BaseDatabaseWrapper, **_kwargs: Any) -> None:
    if connection.vendor == "sqlite":
        connection.connection.create_function("lower", 1, _lower, deterministic=True)


def _lower(value: Any) -> Any:
    """Return the text with each capital as one small letter (`İ` as `i`), like PostgreSQL."""
    return value.replace("İ", "i").lower() if isinstance(value, str) else value
