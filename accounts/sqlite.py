"""Lets SQLite tell names apart as PostgreSQL does: its own `lower` knows ASCII only, so `Çağla` and `ÇAĞLA` were two.

The unique indexes on user names and addresses use it, so every connection must have it.
"""

from typing import Any

from django.db import connection
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.dispatch import receiver


@receiver(connection_created)
def _know_all_letters(connection: BaseDatabaseWrapper, **_kwargs: Any) -> None:
    if connection.vendor == "sqlite":
        connection.connection.create_function("lower", 1, _lower, deterministic=True)


def audit_deletion_refuse() -> None:
    """Let SQLite refuse to delete from the audit record, as it refuses changes (migration 0003).

    Not in the migration: Django's tests empty tables row by row. And a migration that makes a table anew loses the
    triggers: so both are seen to here, at every start.
    """
    with connection.cursor() as cursor:
        for act in ("UPDATE", "DELETE"):
            cursor.execute(
                f"CREATE TRIGGER IF NOT EXISTS audit_no_{act.lower()} BEFORE {act} ON accounts_auditentry "
                "BEGIN SELECT RAISE(ABORT, 'the audit record is append-only'); END"
            )


def _lower(value: Any) -> Any:
    """Return the text with each capital as one small letter (`İ` as `i`), like PostgreSQL."""
    return value.replace("İ", "i").lower() if isinstance(value, str) else value
