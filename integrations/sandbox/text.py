"""Comparing text the way a reader of Turkish or English does."""

from __future__ import annotations

# Upper and lower case pair up differently in Turkish (dotted and dotless i) and in English; people also type
# Turkish without its dots and tails.
# One character for one character: positions in the folded text are positions in the text.
_PLAIN_LETTERS = str.maketrans("İIıŞşĞğÇçÖöÜü", "iiissggccoouu")


def fold(text: str) -> str:
    """Make letters equal that differ in case or Turkish marks only; the length stays the same."""
    return text.translate(_PLAIN_LETTERS).lower()
