"""Brings the translations up to date: `make translations`.

Reads every translatable string out of the source, merges them into each django.po, and compiles that to the django.mo
that is used at run time. Needs Babel only, not the GNU gettext programs that Django's makemessages calls.
"""

# ruff: noqa: INP001 - a script beside its data

from io import BytesIO
from pathlib import Path
from typing import IO, Any

from babel.messages.catalog import Catalog
from babel.messages.extract import DEFAULT_KEYWORDS, extract_from_dir, extract_python
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po
from django.utils.translation.template import templatize

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parent
SOURCES = ("accounts", "commands", "files", "gateway", "integrations", "notifications")
# What Django adds to the names that Babel knows; the lazy ones take the same arguments as those they are named after.
KEYWORDS = DEFAULT_KEYWORDS | {
    "gettext_lazy": None,
    "gettext_noop": None,
    "ngettext_lazy": (1, 2),
    "pgettext_lazy": ((1, "c"), 2),
    "npgettext_lazy": ((1, "c"), 2, 3),
}


def extract_template(file: IO[bytes], keywords: Any, comment_tags: Any, options: Any) -> Any:
    """Read a Django template: Django writes it as Python calls, line by line, and Babel reads those."""
    lines = templatize(file.read().decode()).splitlines()
    python = "\n".join(line.strip() for line in lines)
    return extract_python(BytesIO(python.encode()), keywords, comment_tags, options)


METHODS: list[tuple[str, Any]] = [
    ("**/tests/**", "ignore"),
    ("**.py", "python"),
    ("**/templates/**.html", extract_template),
    ("**/templates/**.txt", extract_template),
]


def extract() -> Catalog:
    """Return every translatable string of the source, with the places where it stands."""
    catalog = Catalog(project="ALT_LAS gateway", version="1", charset="utf-8", fuzzy=False)
    for source in SOURCES:
        found = extract_from_dir(ROOT / source, METHODS, keywords=KEYWORDS, comment_tags=("Translators:",))
        for name, line, message, comments, context in found:
            catalog.add(message, None, [(f"{source}/{name}", line)], auto_comments=comments, context=context)
    return catalog


def po_files() -> list[Path]:
    return sorted(FOLDER.glob("*/LC_MESSAGES/django.po"))


def read(po_file: Path) -> Catalog:
    with po_file.open("rb") as stream:
        return read_po(stream, locale=po_file.parent.parent.name)


def update(po_file: Path) -> None:
    catalog = read(po_file)
    catalog.update(extract(), no_fuzzy_matching=True, update_creation_date=False)
    with po_file.open("wb") as stream:
        # Without line numbers, and in the order of the text: a change of the source changes no other lines here.
        write_po(stream, catalog, width=120, sort_output=True, ignore_obsolete=True, include_lineno=False)
    with po_file.with_suffix(".mo").open("wb") as stream:
        write_mo(stream, catalog)


if __name__ == "__main__":
    for file in po_files():
        update(file)
