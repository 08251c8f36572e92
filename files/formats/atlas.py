"""`.atlas`: a result as the archive keeps it."""

from files.formats.errors import FormatErrorCode
from files.formats.model import FormatModel, Id
from files.formats.reading import read_json


def parse_atlas(content: str) -> "AtlasDocument":
    data = read_json(content, not_parsable=FormatErrorCode.ATLAS_NOT_PARSABLE)
    return AtlasDocument.from_file(data, invalid=FormatErrorCode.ATLAS_INVALID)


class AtlasDocument(FormatModel):
    """What the gateway makes use of. What else an archive writes stays in the file, whatever it looks like."""

    id: Id
