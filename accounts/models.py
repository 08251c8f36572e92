from datetime import datetime, timedelta
from typing import ClassVar

from django.conf import settings
from django.contrib.auth.models import AbstractUser
from django.db import models
from django.db.models.functions import Lower
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from gateway.ids import new_id


class User(AbstractUser):
    """A person. Signs in by user name or e-mail address; letter case does not tell people apart."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    email = models.EmailField(_("email address"))

    class Meta(AbstractUser.Meta):
        constraints: ClassVar = [
            models.UniqueConstraint(
                Lower("username"), name="user_username_unique", violation_error_message=_("This user name is taken.")
            ),
            models.UniqueConstraint(
                Lower("email"), name="user_email_unique", violation_error_message=_("This address is taken.")
            ),
            # Else somebody could take another person's address as a user name and sign in "as" it.
            models.CheckConstraint(
                condition=~models.Q(username__contains="@"),
                name="user_username_is_no_email",
                violation_error_message=_("A user name must not contain @."),
            ),
        ]


class DeviceSession(models.Model):
    """One sign-in on one device: the family of refresh tokens that follow one another in it.

    The row names the only refresh token that is good now and the one before it. Using the one before
    again soon after (two tabs, a lost answer) gives the same successor; later it means that the token was stolen.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="device_sessions")
    device_name = models.CharField(max_length=100, blank=True)
    refresh_jti = models.CharField(max_length=32)
    previous_refresh_jti = models.CharField(max_length=32, blank=True)
    refreshed_at = models.DateTimeField()
    expires_at = models.DateTimeField(db_index=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    REUSE_GRACE = timedelta(seconds=20)

    def __str__(self) -> str:
        return f"{self.user} ({self.device_name or self.id})"

    def is_open(self, now: datetime | None = None) -> bool:
        return self.ended_at is None and self.expires_at > (now or timezone.now())
