from typing import ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _


class FailedSignIns(models.Model):
    """How often a sign-in failed for an account, an address, or one from the other, and until when it is blocked.

    In the database, not in the cache: all processes share it, and a flushed Redis opens no door.
    """

    key = models.CharField(_("what"), max_length=200, unique=True)
    failures = models.PositiveIntegerField(_("failures"), default=0)
    last_failed_at = models.DateTimeField(_("last failed"), db_index=True)
    blocked_until = models.DateTimeField(_("blocked until"), null=True, blank=True)

    class Meta:
        verbose_name = _("failed sign-ins")
        verbose_name_plural = _("failed sign-ins")
        indexes: ClassVar = [
            models.Index(
                fields=["blocked_until"], name="failed_blocked", condition=models.Q(blocked_until__isnull=False)
            )
        ]

    def __str__(self) -> str:
        return self.key
