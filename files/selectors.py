from uuid import UUID

from django.http import Http404

from accounts.models import User
from files.models import StoredFile
from files.storage import storage_errors


def file_get(*, user: User, file_id: UUID) -> StoredFile:
    """Return the user's own file. Raises Http404 for any other."""
    file = StoredFile.objects.filter(owner=user, id=file_id).first()
    if file is None:
        raise Http404
    return file


def file_bytes(file: StoredFile) -> bytes:
    """Return the whole content. Raises OSError if the storage does not give it."""
    with storage_errors(), file.content.open("rb") as stream:
        content: bytes = stream.read()
    return content


def file_text(file: StoredFile) -> str:
    """Return the whole content as text. Raises OSError if the storage does not give it."""
    return file_bytes(file).decode()
