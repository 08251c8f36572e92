"""The three files a command leaves behind: read safely, checked, in one normal shape.

Their content comes from backend services and is not trusted. Each `parse_*` takes any text and either
returns a document that holds what its model promises, or raises `FormatError`; never anything else.
"""

from files.formats.alt import AltDocument, AltTask, parse_alt
from files.formats.atlas import AtlasDocument, parse_atlas
from files.formats.errors import FormatError, FormatErrorCode
from files.formats.last import LastDocument, TaskResult, parse_last
from files.formats.reading import MAX_FILE_BYTES

__all__ = [
    "MAX_FILE_BYTES",
    "AltDocument",
    "AltTask",
    "AtlasDocument",
    "FormatError",
    "FormatErrorCode",
    "LastDocument",
    "TaskResult",
    "parse_alt",
    "parse_atlas",
    "parse_last",
]
