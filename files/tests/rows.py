"""Files for tests."""

from accounts.models import User
from files.models import Kind, StoredFile
from files.services import file_store
from gateway.ids import new_id


def stored_file(
    owner: User, *, kind: Kind = Kind.ALT, text: str = "task: Merhaba dünya\r\n\n", name: str = "a.alt"
) -> StoredFile:
    """Return a file of that person, in the storage and in the database."""
    file = file_store(owner_id=owner.id, kind=kind, name=name, text=text, folder=new_id().hex)
    file.save()
    return file
