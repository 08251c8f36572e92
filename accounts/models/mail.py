from typing import ClassVar

from django.conf import settings
from django.db import models
from django.utils.translation import gettext_lazy as _

from gateway.ids import new_id


class MailKind(models.TextChoices):
    VERIFY_EMAIL = "verify_email", _("verify the address")
    RESET_PASSWORD = "reset_password", _("reset the password")
    PASSWORD_CHANGED = "password_changed", _("the password was changed")
    EMAIL_CHANGED = "email_changed", _("the address was changed")
    SESSION_STOLEN = "session_stolen", _("a session was ended for safety")
    SIGN_INS_FAILED = "sign_ins_failed", _("many sign-ins failed")
    API_KEY_CREATED = "api_key_created", _("an API key was made")
    SECOND_FACTOR_CHANGED = "second_factor_changed", _("the second factor was changed")
    ALARM_FIRING = "alarm_firing", _("an alarm is firing")
    ALARM_RESOLVED = "alarm_resolved", _("an alarm is over")


class Mail(models.Model):
    """A mail that is to go out: the outbox. Its text and tokens are made when it is sent, and not kept.

    `address` may belong to nobody: asking for a new password costs the same whether or not it does.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    kind = models.CharField(_("kind"), max_length=30, choices=MailKind)
    address = models.EmailField(_("address"))
    data = models.JSONField(_("data"), default=dict)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)
    due_at = models.DateTimeField(_("due"), null=True, blank=True, help_text=_("Empty when it is settled."))
    attempts = models.PositiveSmallIntegerField(_("attempts"), default=0)
    sent_at = models.DateTimeField(_("sent"), null=True, blank=True)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, null=True, blank=True)

    class Meta:
        verbose_name = _("mail")
        verbose_name_plural = _("mails")
        indexes: ClassVar = [
            models.Index(fields=["due_at"], name="mail_due", condition=models.Q(due_at__isnull=False)),
            models.Index(fields=["address", "kind", "created_at"], name="mail_recent"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} → {self.address}"
