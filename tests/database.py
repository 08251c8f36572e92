"""Puts the database back after a test that commits, for a tenth of what Django's flush costs.

Django empties every table after such a test, and runs anew what follows `migrate`: content types, permissions, roles.
Here only those tables are put right that do not hold what `migrate` left in them.
"""

from dataclasses import dataclass
from typing import Any

from django.db import connection, transaction

# The one table that PostgreSQL deletes no row from (accounts.migrations.0003_audit_is_append_only).
APPEND_ONLY = "accounts_auditentry"


@dataclass(frozen=True)
class InitialRows:
    """What each table holds before the first test. Most hold nothing."""

    by_table: dict[str, list[tuple[Any, ...]]]

    @classmethod
    def read(cls) -> "InitialRows":
        tables = connection.introspection.django_table_names(only_existing=True, include_views=False)
        return cls({table: _rows(table) for table in tables})

    def restore(self) -> None:
        """Make the tables hold these rows again, and no others."""
        with transaction.atomic():
            changed = [table for table in self._in_question() if _rows(table) != self.by_table[table]]
            # In any order: foreign keys are looked at when the transaction ends.
            for table in changed:
                _empty(table)
            for table in changed:
                _insert(table, self.by_table[table])

    def _in_question(self) -> list[str]:
        """Return the tables that hold anything now, or should."""
        needed = [table for table, rows in self.by_table.items() if rows]
        return needed + _not_empty([table for table, rows in self.by_table.items() if not rows])


def _not_empty(tables: list[str]) -> list[str]:
    queries = [f"SELECT '{table}' WHERE EXISTS (SELECT 1 FROM {_quoted(table)})" for table in tables]  # noqa: S608
    with connection.cursor() as cursor:
        cursor.execute(" UNION ALL ".join(queries))
        return [table for (table,) in cursor.fetchall()]


def _rows(table: str) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT * FROM {_quoted(table)} ORDER BY 1")  # noqa: S608
        return list(cursor.fetchall())


def _empty(table: str) -> None:
    truncate = table == APPEND_ONLY and connection.vendor == "postgresql"
    with connection.cursor() as cursor:
        cursor.execute(f"{'TRUNCATE' if truncate else 'DELETE FROM'} {_quoted(table)}")


def _insert(table: str, rows: list[tuple[Any, ...]]) -> None:
    if rows:
        places = ", ".join(["%s"] * len(rows[0]))
        with connection.cursor() as cursor:
            cursor.executemany(f"INSERT INTO {_quoted(table)} VALUES ({places})", rows)  # noqa: S608


def _quoted(table: str) -> str:
    return connection.ops.quote_name(table)
