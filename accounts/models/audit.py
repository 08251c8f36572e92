from typing import Any, ClassVar, NoReturn

from django.db import models
from django.utils.translation import gettext_lazy as _

from gateway.ids import new_id


class AuditEntryQuerySet(models.QuerySet["AuditEntry"]):
    def update(self, **_kwargs: Any) -> NoReturn:
        raise TypeError("the audit record is append-only")

    def delete(self) -> NoReturn:
        raise TypeError("the audit record is append-only")


class AuditEntry(models.Model):
    """One security-relevant act. Append-only: a trigger of the database refuses changes, whoever makes them.

    Who and whom are kept as ids and names, not as foreign keys: the record outlives those it speaks of.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    at = models.DateTimeField(_("at"), auto_now_add=True, db_index=True)
    action = models.CharField(_("action"), max_length=50, db_index=True)
    actor_id = models.UUIDField(_("actor id"), null=True, blank=True, db_index=True)
    actor_name = models.CharField(_("actor"), max_length=150, blank=True)
    credential_id = models.UUIDField(_("session or API key"), null=True, blank=True)
    address = models.GenericIPAddressField(_("address"), null=True, blank=True)
    request_id = models.CharField(_("request id"), max_length=100, blank=True)
    target_type = models.CharField(_("target type"), max_length=50, blank=True)
    target_id = models.CharField(_("target id"), max_length=50, blank=True, db_index=True)
    target_name = models.CharField(_("target"), max_length=150, blank=True)
    changes = models.JSONField(_("changes"), default=dict, help_text=_("Per field: before and after."))
    reason = models.CharField(_("reason"), max_length=200, blank=True)

    objects: ClassVar[Any] = AuditEntryQuerySet.as_manager()

    class Meta:
        verbose_name = _("audit entry")
        verbose_name_plural = _("audit entries")
        permissions: ClassVar = [("export_auditentry", "Can export the audit record")]

    def __str__(self) -> str:
        return f"{self.action} {self.target_name}"

    def save(self, **kwargs: Any) -> None:
        super().save(**{**kwargs, "force_insert": True, "force_update": False, "update_fields": None})

    def delete(self, using: Any = None, keep_parents: bool = False) -> NoReturn:  # noqa: FBT001, FBT002 - Django's
        raise TypeError("the audit record is append-only")
