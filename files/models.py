from typing import ClassVar

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from gateway.ids import new_id


class Kind(models.TextChoices):
    ALT = "alt", _("tasks (.alt)")
    LAST = "last", _("execution result (.last)")
    ATLAS = "atlas", _("archive entry (.atlas)")


class StoredFile(models.Model):
    """One file as a service gave it, byte for byte. The row is written after the bytes are in the storage."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="stored_files", db_index=False
    )
    kind = models.CharField(max_length=5, choices=Kind.choices)
    name = models.CharField(max_length=255)
    content = models.FileField(max_length=255)
    size = models.PositiveIntegerField(help_text=_("bytes"))
    sha256 = models.CharField(max_length=64)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("-id",)
        # Django's own permissions are for the files of anybody, in the admin pages.
        permissions: ClassVar = [("read_own_storedfile", "Can read own files")]
        indexes: ClassVar = [models.Index(fields=["owner", "-id"], name="file_of_owner")]

    def __str__(self) -> str:
        return self.name


class DeletedContent(models.Model):
    """Bytes in the storage whose row is gone. Made in the transaction that deletes the row, so none are forgotten."""

    content = models.CharField(max_length=255)

    class Meta:
        default_permissions = ()  # there is no door to these

    def __str__(self) -> str:
        return self.content
