"""Text in Turkish or English -> the tasks it asks for. Pure rules, linear in the length of the text."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

from integrations.sandbox.actions import find_action
from integrations.sandbox.text import fold

# A quoted span. An apostrophe (Ankara'da, don't) neither opens nor closes one. No alternative may look
# further than the next quote of its kind: that keeps many unclosed quotes linear.
_QUOTED = re.compile(r"\"[^\"]*\"|“[^“”]*”|(?<!\w)'[^'\n]*'(?!\w)")
_MASK = "\ufffc"  # neither a word character, nor a space, nor any separator

_LINE_END = re.compile(r"\r\n|\n|\r|\u2028|\u2029")
_LIST_MARKER = re.compile(r"\s*(?:(?P<number>[0-9]{1,3}[.)](?=\s))|[-*](?=\s)|•)\s*")

_SEQUENCE = (
    r"(?:ve\s+)?(?:bundan\s+sonra|ondan\s+sonra|daha\s+sonra|sonra|bunun\s+ardindan|ardindan)"
    r"|(?:and\s+)?(?:after\s+that|then)"
)
_SEPARATOR = re.compile(
    rf"(?P<semicolon>;)"
    rf"|(?P<sentence>(?<!\.)\.(?=\s)|(?<=[^\W_])[!?]+(?=\s))"
    rf"|(?<!\S)(?:(?P<sequence>{_SEQUENCE})|ve|and)(?=,?\s),?"
)
_ABBREVIATION = re.compile(r"(?:^|\s)(?:dr|mr|mrs|ms|prof|no|vb|vs|orn|bkz|e\.g|i\.e|etc)$")
# "dersten sonra" (after the lesson), "haftanin ardindan" (after the week): no new task begins there.
_POSTPOSITION = re.compile(r"(?:[dt][ae]n|n[iu]n)$")


@dataclass(frozen=True)
class Piece:
    """One task's text, and whether it has to wait for the one before it."""

    content: str
    follows: bool


def split(text: str) -> list[Piece]:
    """Split a text that is not blank into at least one piece."""
    text = text.strip()
    masked = _QUOTED.sub(lambda match: _MASK * len(match[0]), text)
    ends = [match.end() for match in _LINE_END.finditer(masked)]
    pieces: list[Piece] = []
    follows = False
    for start, end in pairwise([0, *ends, len(text)]):
        follows = _split_line(text[start:end], masked[start:end], pieces, follows=follows)
    return pieces or [Piece(text, follows=False)]


def _split_line(line: str, masked: str, pieces: list[Piece], *, follows: bool) -> bool:
    """Add the line's pieces; return whether it ends in a connective the next line has to heed."""
    folded = fold(masked)
    marker = _LIST_MARKER.match(folded)
    start = marker.end() if marker else 0
    follows = follows or bool(marker and marker["number"])
    for separator in _SEPARATOR.finditer(folded, start):
        if not _separates(separator, folded, start):
            continue
        # An exclamation or question mark belongs to what was said, a full stop does not.
        spoken = bool(separator["sentence"]) and separator[0] != "."
        if _add(pieces, line[start : separator.end() if spoken else separator.start()], follows=follows):
            follows = False
        follows = follows or bool(separator["sequence"])
        start = separator.end()
    return not _add(pieces, line[start:], follows=follows) and follows


def _separates(separator: re.Match[str], folded: str, start: int) -> bool:
    # A short tail is enough to decide, and keeps a line of many full stops linear.
    before = folded[max(start, separator.start() - 30) : separator.start()].rstrip()
    after = folded[separator.end() : separator.end() + 30].lstrip()
    if separator["sentence"] == ".":
        if _ABBREVIATION.search(before):
            return False
        # "3. 5" is a number and "10. dosya" an ordinal; "sleep 3. echo" are two sentences.
        return not before[-1:].isdigit() or find_action(after) is not None
    if separator["sequence"] in {"sonra", "ardindan"} and _POSTPOSITION.search(before):
        return find_action(folded[start : start + 30]) is not None
    return True


def _add(pieces: list[Piece], raw: str, *, follows: bool) -> bool:
    content = raw.strip().strip(",;").strip()
    if content.endswith(".") and not content.endswith(".."):
        content = content[:-1].rstrip()
    if content:
        pieces.append(Piece(content, follows=follows and bool(pieces)))
    return bool(content)


_KEYWORDS = (
    ("summarize", re.compile(r"\b(?:ozet\w*|summar\w+)\b")),
    ("report", re.compile(r"\b(?:rapor\w*|report\w*)\b")),
    ("translate", re.compile(r"\b(?:cevir|tercume|translate)\b")),
    ("search", re.compile(r"\b(?:ara|arat|bul|search|find)\b")),
    ("list", re.compile(r"\b(?:goster|listele|list|show)\b")),
)


def classify(content: str) -> tuple[str, float]:
    """Return the task type and how sure these simple rules are of it."""
    action = find_action(content)
    if action is not None:
        return action.name, 0.95
    folded = fold(content)
    for task_type, pattern in _KEYWORDS:
        if pattern.search(folded):
            return task_type, 0.8
    return "execute", 0.5


_TURKISH_LETTERS = frozenset("çğıöşüÇĞİÖŞÜ")
_TURKISH_WORD = re.compile(
    r"\b(?:ve|bir|bu|su|icin|ile|sonra|ardindan|daha|en|cok|yaz|bekle|hesapla|bul|ara|goster|listele|rapor"
    r"|dosya|dosyalari|merhaba|nasil|nedir|kontrol|olustur)\b"
)


def detect_language(text: str) -> str:
    is_turkish = not _TURKISH_LETTERS.isdisjoint(text) or _TURKISH_WORD.search(fold(text)) is not None
    return "tr" if is_turkish else "en"
