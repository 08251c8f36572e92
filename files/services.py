import hashlib
import re
from pathlib import PurePosixPath
from uuid import UUID

from django.core.files.base import ContentFile
from django.core.files.storage import default_storage

from files.models import Kind, StoredFile
from files.storage import storage_errors


def file_store(*, owner_id: UUID, kind: Kind, name: str, text: str, folder: str) -> StoredFile:
    """Write the bytes to the storage and return the row for them, not yet saved.

    The caller saves the row in the transaction that makes use of it. If the process dies in between, the next
    try finds the same bytes under the same key (it is made of folder and sha256) and goes on from there.

    Raises OSError if the storage fails.
    """
    content = text.encode()
    digest = hashlib.sha256(content).hexdigest()
    key = f"{kind}/{folder}/{digest}.{kind}"
    with storage_errors():
        # A whole copy that is already there is left alone: somebody may be reading it.
        if not (default_storage.exists(key) and default_storage.size(key) == len(content)):
            key = default_storage.save(key, ContentFile(content))
    return StoredFile(
        owner_id=owner_id, kind=kind, name=safe_name(name, kind), content=key, size=len(content), sha256=digest
    )


def safe_name(name: str, kind: Kind) -> str:
    """Return a file name without folders, control characters or a foreign extension, from whatever a service said."""
    base = PurePosixPath(name.replace("\\", "/")).name
    stem = re.sub(r"[^\w.-]+", "_", base.removesuffix(".json").removesuffix(f".{kind}")).strip("._")[:200].rstrip("._")
    return f"{stem or 'file'}.{kind}"
