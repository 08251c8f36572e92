from datetime import datetime, timedelta
from enum import StrEnum
from typing import ClassVar

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from gateway.ids import new_id


class ServiceKind(models.TextChoices):
    SEGMENTATION = "segmentation", _("segmentation")
    RUNNER = "runner", _("runner")
    ARCHIVE = "archive", _("archive")


class Source(models.TextChoices):
    """Who said that there is such an instance, and so who can take it away again."""

    SETTINGS = "settings", _("settings")
    DNS = "dns", _("DNS")
    API = "api", _("registration")
    ADMIN = "admin", _("administrator")


FROM_SETTINGS = (Source.SETTINGS, Source.DNS)
# The least leaves room for a heartbeat that gets lost, and for clocks of two hosts that are a second apart.
MIN_TIME_TO_LIVE, MAX_TIME_TO_LIVE = 15, 3600


# How long a check tells how an instance is: a round is every 5 s and takes at most 20 s.
CHECK_COUNTS = timedelta(minutes=1)


class ServiceState(models.TextChoices):
    """Stable names: clients may branch on them."""

    HEALTHY = "healthy", _("healthy")
    UNHEALTHY = "unhealthy", _("unhealthy")
    DRAINING = "draining", _("draining")
    DISABLED = "disabled", _("disabled")
    LEFT = "left", _("left")


class Illness(StrEnum):
    """Why an instance is ill, for strangers. Stable names: monitors may branch on them."""

    NOT_CHECKED = "not_checked"
    NO_ANSWER = "no_answer"
    SAYS_SO = "says_so"
    CALLS_FAIL = "calls_fail"


class ServiceInstance(models.Model):
    """One running instance of a backend service: where it is, what it can do, and how it is.

    What people and services say of it (`weight` to `left_at`) is written by integrations.services and, of those that
    the settings name, by integrations.discovery; how it is (`is_healthy` to `checked_at`) by integrations.health.

    One that was taken out has left: its row is kept for a while, so that it is still asked after the work that it has.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    kind = models.CharField(_("kind"), max_length=12, choices=ServiceKind)
    base_url = models.CharField(_("base URL"), max_length=300)
    source = models.CharField(_("known from"), max_length=8, choices=Source)
    registered_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, verbose_name=_("registered by")
    )
    dialect = models.CharField(_("dialect"), max_length=30, default="standard", help_text=_("How it speaks."))
    version = models.CharField(_("version"), max_length=50, blank=True)
    weight = models.PositiveSmallIntegerField(
        _("weight"), default=1, validators=[MinValueValidator(1), MaxValueValidator(100)],
        help_text=_("How much work it gets, compared with others."),
    )  # fmt: skip
    tags = models.JSONField(_("tags"), default=list, blank=True)
    is_draining = models.BooleanField(
        _("draining"), default=False, help_text=_("It gets no new work, and keeps its own.")
    )
    is_disabled = models.BooleanField(_("disabled"), default=False, help_text=_("It gets no work, and is not checked."))
    time_to_live = models.PositiveIntegerField(
        _("time to live"), null=True, blank=True,
        validators=[MinValueValidator(MIN_TIME_TO_LIVE), MaxValueValidator(MAX_TIME_TO_LIVE)],
        help_text=_("Seconds without a heartbeat after which it is gone: 15 to 3600."),
    )  # fmt: skip
    # Of one that the settings name: when they last did.
    heartbeat_at = models.DateTimeField(_("last heartbeat"), null=True, blank=True)
    # Fields that an administrator set: a registration does not change them any more.
    administered = models.JSONField(default=list, editable=False)
    left_at = models.DateTimeField(_("left"), null=True, editable=False)
    created_at = models.DateTimeField(_("registered"), auto_now_add=True)

    is_healthy = models.BooleanField(_("healthy"), null=True, editable=False)
    health_since = models.DateTimeField(_("since"), null=True, editable=False)
    health_reason = models.CharField(_("why"), max_length=200, blank=True, editable=False)
    illness = models.CharField(max_length=12, blank=True, editable=False)  # an Illness
    successes_in_row = models.PositiveIntegerField(default=0, editable=False)
    failures_in_row = models.PositiveIntegerField(default=0, editable=False)
    checked_at = models.DateTimeField(_("checked"), null=True, editable=False)
    told_state = models.CharField(max_length=12, blank=True, editable=False)  # by integrations.events

    class Meta:
        verbose_name = _("service instance")
        verbose_name_plural = _("service instances")
        permissions: ClassVar = [("register_serviceinstance", "Can register service instances and steer own ones")]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["kind", "base_url"],
                name="service_instance_unique",
                violation_error_message=_("There is such an instance already."),
            ),
            models.CheckConstraint(
                condition=models.Q(weight__gte=1, weight__lte=100), name="service_instance_weight_between"
            ),
            models.CheckConstraint(
                condition=models.Q(time_to_live__isnull=True)
                | models.Q(time_to_live__gte=MIN_TIME_TO_LIVE, time_to_live__lte=MAX_TIME_TO_LIVE),
                name="service_instance_time_to_live_between",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.base_url}"

    def has_gone(self, now: datetime | None = None) -> bool:
        """Return whether its heartbeat is overdue: of who has not left, nor is of the settings, where none counts."""
        if self.left_at or not self.is_registered or self.time_to_live is None or self.heartbeat_at is None:
            return False
        return (now or timezone.now()) - self.heartbeat_at > timedelta(seconds=self.time_to_live)

    def is_overlooked(self) -> bool:
        """Return whether the last check was too long ago to say anything. It may get work all the same."""
        return self.checked_at is not None and timezone.now() - self.checked_at > CHECK_COUNTS

    def forget_health(self) -> None:
        """Let nobody know how it is: the next look decides. To be saved by the caller."""
        self.is_healthy, self.health_since, self.health_reason, self.illness = None, None, "", ""
        self.successes_in_row = self.failures_in_row = 0

    @property
    def is_registered(self) -> bool:
        return self.source not in FROM_SETTINGS

    @property
    def takes_work(self) -> bool:
        return not (self.is_disabled or self.is_draining or self.left_at or self.has_gone())

    @property
    def state(self) -> ServiceState:
        if self.left_at is not None:
            return ServiceState.LEFT
        if self.is_disabled:
            return ServiceState.DISABLED
        if self.is_draining:
            return ServiceState.DRAINING
        is_well = self.is_healthy and not self.has_gone() and not self.is_overlooked()
        return ServiceState.HEALTHY if is_well else ServiceState.UNHEALTHY

    @property
    def reason(self) -> str:
        """Why it is unhealthy, empty if it is not: for those who may see instances."""
        if self.state is not ServiceState.UNHEALTHY:
            return ""
        if self.has_gone():
            return "sends no heartbeat"
        if self.is_healthy is None:
            return "was not checked yet"
        return "was not checked lately" if self.is_overlooked() else self.health_reason

    @property
    def public_reason(self) -> str:
        """The same in one of a few words: for strangers."""
        if self.state is not ServiceState.UNHEALTHY:
            return ""
        return self.illness if self.is_healthy is False and not self.is_overlooked() else str(Illness.NOT_CHECKED)

    @property
    def since(self) -> datetime | None:
        """Return since when its health is as it is."""
        if self.heartbeat_at is not None and self.time_to_live is not None and self.has_gone():
            return self.heartbeat_at + timedelta(seconds=self.time_to_live)
        if self.checked_at is not None and self.is_healthy and self.is_overlooked():
            return self.checked_at + CHECK_COUNTS
        return self.health_since


class ServiceCheck(models.Model):
    """One look at an instance; kept for a day."""

    instance = models.ForeignKey(ServiceInstance, on_delete=models.CASCADE, related_name="checks", db_index=False)
    at = models.DateTimeField(_("at"), auto_now_add=True)
    ok = models.BooleanField(_("ok"))
    reason = models.CharField(_("why"), max_length=200, blank=True)
    latency_ms = models.PositiveIntegerField(_("latency (ms)"), null=True)

    class Meta:
        verbose_name = _("service check")
        verbose_name_plural = _("service checks")
        default_permissions = ("view",)
        ordering = ("-id",)
        indexes: ClassVar = [
            models.Index(fields=["instance", "-id"], name="service_check_of_instance"),
            models.Index(fields=["at"], name="service_check_at"),
        ]

    def __str__(self) -> str:
        return f"{self.at:%H:%M:%S} {'ok' if self.ok else self.reason}"


from integrations.alarms import models as _alarms  # noqa: E402, F401 - a room has one place where Django finds models
