"""When a row goes, as all of a user's do with the user, its bytes go too: soon, by files.tasks."""

from typing import Any

from django.db.models.signals import post_delete
from django.dispatch import receiver

from files.models import DeletedContent, StoredFile


@receiver(post_delete, sender=StoredFile)
def note_content(instance: StoredFile, **_kwargs: Any) -> None:
    DeletedContent.objects.create(content=str(instance.content.name))
