import hashlib
import logging
import re
from collections.abc import Collection
from pathlib import PurePosixPath
from time import monotonic
from uuid import UUID

from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import transaction

from files.models import DeletedContent, Kind, StoredFile
from files.storage import storage_errors

logger = logging.getLogger(__name__)

REMOVAL_SECONDS = 5.0  # of each minute
REMOVAL_BATCH = 200


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


def files_delete(*, ids: Collection[UUID]) -> int:
    """Delete files that nobody refers to; their bytes go soon after the commit. Return how many they were.

    The transaction fails with IntegrityError if somebody began to refer to one of them meanwhile.
    """
    with transaction.atomic():
        rows = StoredFile.objects.filter(id__in=ids)
        contents = list(rows.values_list("content", flat=True))
        DeletedContent.objects.bulk_create(DeletedContent(content=content) for content in contents)
        # As `delete` does, but in one statement and without looking for who refers to them.
        rows._raw_delete(rows.db)  # noqa: SLF001
    return len(contents)


def deleted_contents_remove(*, seconds: float = REMOVAL_SECONDS) -> int:
    """Remove from the storage what is no longer needed, for so long at most. Return how many objects.

    What the storage does not remove now is left to the next time. Two at once do no harm.
    """
    removed, last, stops_at = 0, 0, monotonic() + seconds
    while monotonic() < stops_at:
        batch = list(DeletedContent.objects.filter(pk__gt=last).order_by("pk")[:REMOVAL_BATCH])
        if not batch:
            break
        last = batch[-1].pk
        gone = [each.pk for each in batch if monotonic() < stops_at and _removed(each.content)]
        DeletedContent.objects.filter(pk__in=gone).delete()
        removed += len(gone)
    return removed


def _removed(content: str) -> bool:
    try:
        with storage_errors():
            default_storage.delete(content)
    except OSError as error:
        logger.warning("%s is not removed from the storage yet: %s", content, error)
        return False
    return True


def safe_name(name: str, kind: Kind) -> str:
    """Return a file name without folders, control characters or a foreign extension, from whatever a service said."""
    base = PurePosixPath(name.replace("\\", "/")).name
    stem = re.sub(r"[^\w.-]+", "_", base.removesuffix(".json").removesuffix(f".{kind}")).strip("._")[:200].rstrip("._")
    return f"{stem or 'file'}.{kind}"
