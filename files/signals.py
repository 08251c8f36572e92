"""When a row goes, as all of a user's do with the user, its bytes go too."""

import logging
from typing import Any

from django.core.files.storage import default_storage
from django.db import transaction
from django.db.models.signals import post_delete
from django.dispatch import receiver

from files.models import StoredFile
from files.storage import storage_errors

logger = logging.getLogger(__name__)


@receiver(post_delete, sender=StoredFile)
def delete_content(instance: StoredFile, **_kwargs: Any) -> None:
    name = str(instance.content.name)
    transaction.on_commit(lambda: _delete(name), robust=True)


def _delete(name: str) -> None:
    try:
        with storage_errors():
            default_storage.delete(name)
    except OSError as error:
        logger.warning("%s stays in the storage without a row: %s", name, error)
