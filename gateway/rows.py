"""Statements that are made for every step of every command: written once, and not built anew each time.

Django takes several times as long to build such a statement as to have it done. What a row holds and how it is stored
still is the model's business. Not for models whose saving others listen to: no signal is sent.
"""
# ruff: noqa: SLF001 - _meta is public by its documentation

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

from django.db import connection, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Field, Model

AnyModel = TypeVar("AnyModel", bound=Model)
_UNSYNCED = "set_config('synchronous_commit', 'off', true)"  # true: for this transaction alone


def select(
    model: type[AnyModel], where: Mapping[str, Any], *, order: str = "", related: tuple[str, ...] = ()
) -> list[AnyModel]:
    """Return the rows that have these values (None: that have none), in the order of a field.

    `related` are foreign keys whose rows come along.
    """
    unset = tuple(value is None for value in where.values())
    statement, fields, parts = _select(model, tuple(where), unset, order, related)
    given = [value for value in where.values() if value is not None]
    with connection.cursor() as cursor:
        cursor.execute(statement, _stored(fields, given))
        rows = cursor.fetchall()
    return [_instance(row, parts) for row in rows]


def insert(row: Model) -> None:
    """Save a new row. One whose key the database gives does not learn it."""
    with connection.cursor() as cursor:
        cursor.execute(*insertion(row))
    was_saved(row)


def insertion(row: Model, **computed: str) -> tuple[str, list[Any]]:
    """Return the statement that saves a new row, and the values that it takes.

    `computed` are fields that get an expression instead; the values of these expressions come last.
    """
    model, own = type(row), _own_connection()
    fields = _inserted(model, tuple(computed))
    values = [field.pre_save(row, True) for field in fields]  # noqa: FBT003 - Django's own
    statement = _insertion(model, tuple(value is None for value in values), **computed)
    given = zip(fields, values, strict=True)
    return statement, [field.get_db_prep_save(value, own) for field, value in given if value is not None]


def was_saved(row: Model) -> None:
    row._state.adding, row._state.db = False, connection.alias  # as Model.save() does


def update(
    model: type[Model],
    where: Mapping[str, Any],
    values: Mapping[str, Any],
    *,
    counting: str = "",
    may_be_lost: bool = False,
) -> int:
    """Change the rows that have these values (None: that have none). Return how many they are.

    `counting` is a field that goes up by one; of the one row that is changed, its new number is returned then.
    `may_be_lost` is for what need not survive a crash of the database server (see `unsynced`).
    """
    unset = tuple(value is None for value in where.values())
    statement, fields = _update(model, tuple(values), tuple(where), unset, counting)
    if may_be_lost and (without_waiting := unsynced()):
        statement += f" RETURNING {without_waiting}"
    given = [*values.values(), *(value for value in where.values() if value is not None)]
    stored = _stored(fields, given)
    with connection.cursor() as cursor:
        cursor.execute(statement, stored)
        if not counting:
            return int(cursor.rowcount)
        numbers = cursor.fetchall()  # to the end: SQLite is not done before
        return int(numbers[0][0]) if numbers else 0


def fetch(
    model: type[AnyModel], statement: str, values: Mapping[str, Any] | Sequence[Any]
) -> list[tuple[AnyModel, tuple[Any, ...]]]:
    """Have a statement done that returns first the `columns` of a model. Return its rows, and what else each gave."""
    part = _whole(model)
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        rows = cursor.fetchall()  # to the end: SQLite is not done before
    return [(_instance(row, [part]), row[part.columns.stop :]) for row in rows]


def columns(model: type[Model]) -> str:
    return ", ".join(_name(field.column) for field in model._meta.concrete_fields)


def unsynced() -> str:
    """Return what to add to RETURNING, so that the statement does not wait for the disk; "" if that cannot be.

    All others see at once what it changed. If the database server crashes within a fraction of a second, it may be
    lost, unless something that was committed later is on the disk: then all before it is. Not within a transaction: all
    of that would be committed so.
    """
    return _UNSYNCED if connection.vendor == "postgresql" and not connection.in_atomic_block else ""


def commit_unsynced() -> None:
    """Let the transaction that has just begun be committed like that."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT {_UNSYNCED}")


def _stored(fields: "list[Field[Any, Any]]", values: list[Any]) -> list[Any]:
    own = _own_connection()
    plain = (value.pk if isinstance(value, Model) else value for value in values)
    return [field.get_db_prep_save(value, own) for field, value in zip(fields, plain, strict=True)]


def _own_connection() -> BaseDatabaseWrapper:
    """Return what `connection` stands for in this thread: it looks for that at each of its attributes."""
    return connections[connection.alias]


_Converters = list[tuple[int, Any, list[Callable[..., Any]]]]  # of the columns that need some


class _Part(NamedTuple):
    """The columns of one table in a row: of the model itself, or of what its `field` refers to."""

    field: Any
    model: type[Model]
    columns: slice
    names: list[str]
    key_at: int
    converters: _Converters


def _instance(row: tuple[Any, ...], parts: list[_Part]) -> Any:
    own, *related = [_instance_of(row[part.columns], part) for part in parts]
    for part, other in zip(parts[1:], related, strict=True):
        part.field.set_cached_value(own, other)
    return own


def _instance_of(values: tuple[Any, ...], part: _Part) -> Model | None:
    if values[part.key_at] is None:  # the foreign key is not set
        return None
    return part.model.from_db(connection.alias, part.names, _converted(values, part.converters))


def _converted(row: tuple[Any, ...], converters: _Converters) -> list[Any]:
    values, own = list(row), _own_connection()
    for at, column, convert in converters:
        for each in convert:
            values[at] = each(values[at], column, own)
    return values


@lru_cache
def _inserted(model: type[Model], computed: tuple[str, ...]) -> "list[Field[Any, Any]]":
    """Return the fields that a new row has values of, but for the computed ones."""
    meta = model._meta
    by_database = [field for field in meta.local_concrete_fields if field is meta.auto_field or field.generated]
    return [field for field in meta.local_concrete_fields if field not in by_database and field.name not in computed]


@lru_cache(maxsize=256)
def _insertion(model: type[Model], unset: tuple[bool, ...], **computed: str) -> str:
    fields = [*_inserted(model, tuple(computed)), *(_field(model, name) for name in computed)]
    places = ["NULL" if is_unset else "%s" for is_unset in unset] + list(computed.values())
    columns = ", ".join(_name(field.column) for field in fields)
    return f"INSERT INTO {_name(model._meta.db_table)} ({columns}) VALUES ({', '.join(places)})"  # noqa: S608 - names of the models


@lru_cache(maxsize=256)
def _update(
    model: type[Model], changed: tuple[str, ...], where: tuple[str, ...], unset: tuple[bool, ...], counting: str
) -> tuple[str, "list[Field[Any, Any]]"]:
    """Return the statement, and the fields whose values it takes, in order."""
    condition, given = _condition(model, where, unset)
    fields = [_field(model, name) for name in changed]
    assignments, end = [f"{_name(field.column)} = %s" for field in fields], ""
    if counting:
        counted = _name(_field(model, counting).column)
        assignments.append(f"{counted} = {counted} + 1")
        end = f" RETURNING {counted}"
    table = _name(model._meta.db_table)
    statement = f"UPDATE {table} SET {', '.join(assignments)} WHERE {condition}{end}"  # noqa: S608 - the same
    return statement, [*fields, *given]


@lru_cache(maxsize=256)
def _select(
    model: type[Model], where: tuple[str, ...], unset: tuple[bool, ...], order: str, related: tuple[str, ...]
) -> tuple[str, "list[Field[Any, Any]]", list[_Part]]:
    """Return the statement, the fields whose values it takes, and what its columns are."""
    condition, given = _condition(model, where, unset)
    table = model._meta.db_table
    parts, columns, joins = [_part(None, model, 0)], _columns(model, table), ""
    for name in related:
        field = _field(model, name)
        other, alias = field.related_model, f"its_{name}"
        parts.append(_part(field, other, len(columns)))
        columns += _columns(other, alias)
        key = f"{_name(alias)}.{_name(field.target_field.column)} = {_name(table)}.{_name(field.column)}"
        joins += f" LEFT JOIN {_name(other._meta.db_table)} {_name(alias)} ON {key}"
    end = f" ORDER BY {_name(table)}.{_name(_field(model, order).column)}" if order else ""
    statement = f"SELECT {', '.join(columns)} FROM {_name(table)}{joins} WHERE {condition}{end}"  # noqa: S608 - the same
    return statement, given, parts


def _columns(model: type[Model], table: str) -> list[str]:
    return [f"{_name(table)}.{_name(field.column)}" for field in model._meta.concrete_fields]


@lru_cache
def _whole(model: type[Model]) -> _Part:
    return _part(None, model, 0)


def _part(field: Any, model: type[Model], begin: int) -> _Part:
    fields, converters = model._meta.concrete_fields, []
    for at, each in enumerate(fields):
        column = each.get_col(model._meta.db_table)
        convert = [*connection.ops.get_db_converters(column), *column.get_db_converters(connection)]
        if convert:
            converters.append((at, column, convert))
    names = [each.attname for each in fields]
    key_at = fields.index(model._meta.pk_fields[0])
    return _Part(field, model, slice(begin, begin + len(fields)), names, key_at, converters)


def _condition(
    model: type[Model], where: tuple[str, ...], unset: tuple[bool, ...]
) -> tuple[str, "list[Field[Any, Any]]"]:
    """Return the condition, and the fields whose values it takes."""
    terms, given = [], []
    for name, is_unset in zip(where, unset, strict=True):
        field = _field(model, name)
        terms.append(f"{_name(model._meta.db_table)}.{_name(field.column)} {'IS NULL' if is_unset else '= %s'}")
        given += [] if is_unset else [field]
    return " AND ".join(terms), given


def _field(model: type[Model], name: str) -> Any:
    return model._meta.get_field(name)


def _name(column: str | None) -> str:
    return connection.ops.quote_name(str(column))
