"""Search in commands: which texts hold a word and which have a tag, and the index that finds them."""

import re
from typing import Any

from django.db.models import BooleanField, F, Func, JSONField, QuerySet, TextField, Value

from commands.models import Command

# `I`, `ı`, `İ` and `i` are alike for a search, and so are `ş` and `s`: whoever has no Turkish keyboard finds what was
# written on one. And what `lower` makes of `I` would depend on the locale of the database.
LETTERS, PLAIN = "İIıÇçĞğÖöŞşÜü", "iiiccggoossuu"
_FOLDED = f"LOWER(TRANSLATE(%(expressions)s, '{LETTERS}', '{PLAIN}'))"

# Folded, these may have been something else than themselves as a capital (`k`: the sign for kelvin).
_OF_SEVERAL = re.compile(r"[^abdefhjlmnpqrtvwxyz0-9 ]", re.ASCII | re.IGNORECASE)

# What an index of trigrams can look for: with less, it could not say where.
SEARCHABLE = re.compile(r"[^\W_]{3}")


class Folded(Func):
    """A text as the search sees it: small letters, and the Turkish ones without their marks."""

    function = "LOWER"
    output_field = TextField()

    def as_postgresql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return self.as_sql(compiler, connection, template=_FOLDED, **context)

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        template = "%(expressions)s"
        for letter, plain in zip(LETTERS, PLAIN, strict=True):
            template = f"REPLACE({template}, '{letter}', '{plain}')"
        return self.as_sql(compiler, connection, template=f"LOWER({template})", **context)


class HasTag(Func):
    """Whether a command has a tag."""

    output_field = BooleanField()

    def __init__(self, tag: str) -> None:
        super().__init__(F("tags"), Value([tag], output_field=JSONField()))

    def as_postgresql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return self.as_sql(compiler, connection, template="%(expressions)s", arg_joiner=" @> ", **context)

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        template = "EXISTS (SELECT 1 FROM JSON_EACH(%(expressions)s, '$[0]'))"
        return self.as_sql(
            compiler, connection, template=template, arg_joiner=") WHERE value = JSON_EXTRACT(", **context
        )


class MayHold(Func):
    """Whether a text may hold this one: no if it does not have these letters that nothing else is folded to.

    It costs a twentieth of folding the text, and leaves little to be folded.
    """

    output_field = BooleanField()

    def __init__(self, text: str) -> None:
        super().__init__(F("text"), Value(f"%{_OF_SEVERAL.sub('_', text).lower()}%"))

    def as_postgresql(self, compiler: Any, connection: Any, **context: Any) -> Any:
        template = "LOWER(%(expressions)s"  # of ASCII alone
        return self.as_sql(compiler, connection, template=template, arg_joiner=' COLLATE "C") LIKE ', **context)

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return self.as_sql(compiler, connection, template="%(expressions)s", arg_joiner=" LIKE ", **context)


def with_text(commands: QuerySet[Command], text: str) -> QuerySet[Command]:
    """Return those whose text holds this one, whatever is a capital."""
    held = commands.filter(MayHold(text)).alias(folded=Folded("text"))
    return held.filter(folded__contains=Folded(Value(text)))
