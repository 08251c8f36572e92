from __future__ import annotations

import re
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from integrations.sandbox.splitter import classify, detect_language, split
from integrations.sandbox.text import fold

CONNECTIVES = {
    *"ve sonra daha ardindan bundan ondan bunun and then after that".split()  # noqa: SIM905 - a list of words
}


def tasks(text: str) -> list[tuple[str, bool]]:
    return [(piece.content, piece.follows) for piece in split(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("echo Merhaba dünya ve ardından calc 6*7", [("echo Merhaba dünya", False), ("calc 6*7", True)]),
        ("Dosyaları sırala VE göster", [("Dosyaları sırala", False), ("göster", False)]),
        ("echo a, and then echo b", [("echo a", False), ("echo b", True)]),
        ("echo a; then echo b", [("echo a", False), ("echo b", True)]),
        ("echo a after that echo b", [("echo a", False), ("echo b", True)]),
        ("echo a DAHA SONRA echo b", [("echo a", False), ("echo b", True)]),
        ("echo a ARDINDAN echo b", [("echo a", False), ("echo b", True)]),
        ("1. echo a\n2) echo b", [("echo a", False), ("echo b", True)]),
        ("- echo a\n* echo b\n• echo c", [("echo a", False), ("echo b", False), ("echo c", False)]),
        ("echo a and\necho b then\necho c", [("echo a", False), ("echo b", False), ("echo c", True)]),
        ("Yap bunu. Sonra bitir.", [("Yap bunu", False), ("bitir", True)]),
        ("calc 3.14 * 2. echo b", [("calc 3.14 * 2", False), ("echo b", False)]),
        ("en büyük 10. dosyayı göster", [("en büyük 10. dosyayı göster", False)]),
        ("echo wait... done", [("echo wait... done", False)]),
        ("toplantıdan sonra rapor hazırla", [("toplantıdan sonra rapor hazırla", False)]),
        ("sandık seven bandı", [("sandık seven bandı", False)]),
        ('echo "a and b"', [('echo "a and b"', False)]),
        ("echo “a; b” ve echo 'c. d'", [("echo “a; b”", False), ("echo 'c. d'", False)]),
        ("Ankara'nın ve İzmir'in havası", [("Ankara'nın", False), ("İzmir'in havası", False)]),
        ('echo 5" and echo b', [('echo 5"', False), ("echo b", False)]),
        ("echo ve", [("echo ve", False)]),
        ("then", [("then", False)]),
        (";;", [(";;", False)]),
    ],
)
def test_rules(text: str, expected: Any) -> None:
    assert tasks(text) == expected


words = st.sampled_from(
    [
        "echo",
        "; ",
        ". ",
        "- ",
        "•",
        "x",
        "!",
        " ",
        "ve",
        "ve ardından",
        "and then",
        "sonra",
        "İş",
        "IŞIK",
        '"',
        "'",
        "“a and b”",
        "3.",
        "1. ",
        "\n",
    ]
)


@given(st.one_of(st.text(), st.lists(words).map(" ".join)).filter(str.strip))
def test_no_text_is_lost_and_no_task_is_empty(text: str) -> None:
    pieces = split(text)
    assert pieces
    assert all(piece.content.strip() for piece in pieces)
    assert not pieces[0].follows
    # What is missing in the tasks is nothing but connectives and the numbers of lists.
    kept = iter(re.findall(r"\w+", fold(" ".join(piece.content for piece in pieces))))
    pending = next(kept, None)
    for word in re.findall(r"\w+", fold(text)):
        if word == pending:
            pending = next(kept, None)
        else:
            assert word in CONNECTIVES or word.isdigit()
    assert pending is None


@given(st.text())
def test_folding_keeps_every_position(text: str) -> None:
    assert len(fold(text)) == len(text)


@pytest.mark.parametrize("text", ["“", "'a ", "ve ", "a. ", '"', "bundan ", "!", "1. ", "a\n", "; "])
def test_long_texts_take_no_longer_than_their_length_asks(text: str) -> None:
    started = time.process_time()
    split(text * (100_000 // len(text)))
    assert time.process_time() - started < 5


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("echo a", "echo"),
        ("YAZ a", "echo"),
        ("Bekle 2", "sleep"),
        ("hesapla 1+1", "calc"),
        ("en iyi filmi bul", "search"),
        ("10 tanesini göster", "list"),
        ("metni özetle", "summarize"),
        ("bir rapor oluştur", "report"),
        ("arabayı yıka", "execute"),
        ("echolocate bats", "execute"),
    ],
)
def test_types(content: Any, expected: Any) -> None:
    assert classify(content)[0] == expected


@pytest.mark.parametrize(
    ("text", "language"), [("rapor yaz", "tr"), ("ışık", "tr"), ("VE", "tr"), ("write a report", "en"), ("1", "en")]
)
def test_language(text: str, language: str) -> None:
    assert detect_language(text) == language
