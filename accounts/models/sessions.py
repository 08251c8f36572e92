from datetime import datetime, timedelta
from typing import ClassVar

from django.conf import settings
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from gateway.ids import new_id


class SessionEnd(models.TextChoices):
    """Why a session ended before its time."""

    LOGOUT = "logout", _("signed out")
    REVOKED = "revoked", _("ended by its user")
    ADMINISTRATOR = "administrator", _("ended by an administrator")
    PASSWORD = "password", _("the password changed")
    REUSE = "reuse", _("a used refresh token came back")
    TOO_MANY = "too_many", _("there were too many others")


class DeviceSession(models.Model):
    """One sign-in on one device: the family of refresh tokens that follow one another in it.

    The row names the only refresh token that is good now and the one before it. Using the one before
    again soon after (two tabs, a lost answer) gives the same successor; later it means that the token was stolen.

    It ends when it was idle for REFRESH_TOKEN_LIFETIME (`expires_at` moves on with every refresh), and at the latest
    SESSION_MAX_DAYS after the sign-in (`created_at`).
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="device_sessions")
    device_name = models.CharField(_("device"), max_length=100, blank=True)
    user_agent = models.CharField(_("user agent"), max_length=300, blank=True)
    address = models.GenericIPAddressField(_("address"), null=True, blank=True)
    refresh_jti = models.CharField(max_length=32)
    previous_refresh_jti = models.CharField(max_length=32, blank=True)
    refreshed_at = models.DateTimeField()
    last_seen_at = models.DateTimeField(_("last seen"))
    expires_at = models.DateTimeField(_("expires"), db_index=True)
    ended_at = models.DateTimeField(_("ended"), null=True, blank=True)
    end_reason = models.CharField(_("why it ended"), max_length=20, choices=SessionEnd, blank=True)
    created_at = models.DateTimeField(_("signed in"), auto_now_add=True)

    REUSE_GRACE = timedelta(seconds=20)

    class Meta:
        verbose_name = _("device session")
        verbose_name_plural = _("device sessions")
        indexes: ClassVar = [
            models.Index(fields=["user", "-id"], name="session_open", condition=models.Q(ended_at__isnull=True))
        ]

    def __str__(self) -> str:
        return f"{self.user} ({self.device_name or self.id})"

    def is_open(self, now: datetime | None = None) -> bool:
        return self.ended_at is None and self.expires_at > (now or timezone.now())
