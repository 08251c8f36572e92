from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from django.db import models
from django.db.models.functions import Lower
from django.utils.translation import gettext_lazy as _

from gateway.ids import new_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from django_stubs_ext import StrOrPromise


class Action(models.TextChoices):
    """What can be done. Stable names: administrators filter by them."""

    SIGNED_IN = "signed_in", _("signed in")
    SIGN_IN_FAILED = "sign_in_failed", _("sign-in failed")
    SIGN_INS_BLOCKED = "sign_ins_blocked", _("sign-ins blocked")
    SESSION_ENDED = "session_ended", _("session ended")
    REFRESH_TOKEN_REUSED = "refresh_token_reused", _("refresh token reused")
    USER_REGISTERED = "user_registered", _("user registered")
    NAME_TAKEN = "name_taken", _("asked for a taken name")  # of another user, whom the answer betrays
    USER_CREATED = "user_created", _("user created")
    USER_CHANGED = "user_changed", _("user changed")
    USER_DELETED = "user_deleted", _("user deleted")
    USER_UNLOCKED = "user_unlocked", _("user unlocked")
    USER_ROLES_CHANGED = "user_roles_changed", _("roles of a user changed")
    EMAIL_VERIFIED = "email_verified", _("e-mail verified")
    PASSWORD_CHANGED = "password_changed", _("password changed")
    PASSWORD_RESET_ASKED = "password_reset_asked", _("password reset asked for")
    SECOND_FACTOR_ADDED = "second_factor_added", _("second factor added")
    SECOND_FACTOR_FAILED = "second_factor_failed", _("wrong code of the second factor")
    SECOND_FACTOR_REMOVED = "second_factor_removed", _("second factor removed")
    RECOVERY_CODES_MADE = "recovery_codes_made", _("recovery codes made")
    RECOVERY_CODE_USED = "recovery_code_used", _("recovery code used")
    ROLE_CREATED = "role_created", _("role created")
    ROLE_CHANGED = "role_changed", _("role changed")
    ROLE_DELETED = "role_deleted", _("role deleted")
    ROUTE_RULE_CREATED = "route_rule_created", _("route rule created")
    ROUTE_RULE_CHANGED = "route_rule_changed", _("route rule changed")
    ROUTE_RULE_DELETED = "route_rule_deleted", _("route rule deleted")
    API_KEY_CREATED = "api_key_created", _("API key created")
    API_KEY_REVOKED = "api_key_revoked", _("API key revoked")
    SERVICE_REGISTERED = "service_registered", _("service instance registered")
    SERVICE_CHANGED = "service_changed", _("service instance changed")
    SERVICE_DEREGISTERED = "service_deregistered", _("service instance deregistered")
    BREAKER_RESET = "breaker_reset", _("breaker reset")
    ALARM_RULE_CREATED = "alarm_rule_created", _("alarm rule created")
    ALARM_RULE_CHANGED = "alarm_rule_changed", _("alarm rule changed")
    ALARM_RULE_DELETED = "alarm_rule_deleted", _("alarm rule deleted")
    RETENTION_CHANGED = "retention_changed", _("retention changed")
    ALARM_ACKNOWLEDGED = "alarm_acknowledged", _("alarm acknowledged")
    ALARM_SILENCED = "alarm_silenced", _("alarm silenced")
    ALARM_SILENCE_ENDED = "alarm_silence_ended", _("silence of an alarm ended")
    COMMAND_LIMIT_CREATED = "command_limit_created", _("limit of commands created")
    COMMAND_LIMIT_CHANGED = "command_limit_changed", _("limit of commands changed")
    COMMAND_LIMIT_DELETED = "command_limit_deleted", _("limit of commands deleted")
    COMMAND_CANCELLED = "command_cancelled", _("command cancelled")
    COMMAND_RETRIED = "command_retried", _("command retried")
    COMMAND_REQUEUED = "command_requeued", _("command requeued")
    AUDIT_EXPORTED = "audit_exported", _("audit record exported")


def action_choices() -> "Sequence[tuple[str, StrOrPromise]]":
    """A function, so that a new act needs no migration."""
    return Action.choices


class AuditEntryQuerySet(models.QuerySet["AuditEntry"]):
    def update(self, **_kwargs: Any) -> NoReturn:
        raise TypeError("the audit record is append-only")

    def delete(self) -> NoReturn:
        raise TypeError("the audit record is append-only")


class AuditEntry(models.Model):
    """One security-relevant act. Append-only: a trigger of the database refuses changes and deletion to everybody.

    Who may drop triggers or empty whole tables (TRUNCATE) is not stopped: keep that from the gateway's database user.

    Who and whom are kept as ids and names, not as foreign keys: the record outlives those it speaks of.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    at = models.DateTimeField(_("at"), auto_now_add=True, db_index=True)
    action = models.CharField(_("action"), max_length=50, choices=action_choices, db_index=True)
    actor_id = models.UUIDField(_("actor id"), null=True, blank=True, db_index=True)
    actor_name = models.CharField(_("actor"), max_length=150, blank=True)
    credential_id = models.UUIDField(_("session or API key"), null=True, blank=True, db_index=True)
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
        indexes: ClassVar = [
            models.Index(Lower("actor_name"), name="audit_actor_name"),
            models.Index(Lower("target_name"), name="audit_target_name"),
        ]

    def __str__(self) -> str:
        return f"{self.action} {self.target_name}"

    def save(self, **kwargs: Any) -> None:
        super().save(**{**kwargs, "force_insert": True, "force_update": False, "update_fields": None})

    def delete(self, using: Any = None, keep_parents: bool = False) -> NoReturn:  # noqa: FBT001, FBT002 - Django's
        raise TypeError("the audit record is append-only")
