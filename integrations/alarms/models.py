"""What is watched (rules), what was found (alarms), and what happened to it (their events)."""

from datetime import datetime
from typing import Any, ClassVar

from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from gateway.ids import new_id
from integrations.models import ServiceKind

LONGEST_WAIT = 24 * 3600  # seconds


class Condition(models.TextChoices):
    """What a rule watches. Stable names: clients may branch on them."""

    INSTANCE_DOWN = "instance_down", _("an instance is down")
    SERVICE_DOWN = "service_down", _("all instances of a service are down")
    BREAKER_OPEN = "breaker_open", _("a breaker is open")
    CHECK_ERRORS = "check_errors", _("health checks of an instance fail")
    CALL_ERRORS = "call_errors", _("work fails at a service")
    LATENCY = "latency", _("an instance is slow")
    QUEUE_LENGTH = "queue_length", _("many commands wait")
    STUCK_COMMANDS = "stuck_commands", _("commands are stuck")


# The bounds of a rule's threshold, and its unit. The conditions that are not here have none.
THRESHOLDS: dict[Condition, tuple[int, int, Any]] = {
    Condition.CHECK_ERRORS: (1, 100, _("percent")),
    Condition.CALL_ERRORS: (1, 100, _("percent")),
    Condition.LATENCY: (1, 600_000, _("milliseconds")),
    Condition.QUEUE_LENGTH: (1, 100_000, _("commands")),
    Condition.STUCK_COMMANDS: (1, 10_080, _("minutes")),
}
OF_NO_SERVICE = (Condition.QUEUE_LENGTH, Condition.STUCK_COMMANDS)

# What an alarm says. `detail` is what a service or the gateway said, as it said it.
SENTENCES = {
    Condition.INSTANCE_DOWN: _("%(subject)s is down: %(detail)s"),
    Condition.SERVICE_DOWN: _("No instance of the service %(subject)s is healthy."),
    Condition.BREAKER_OPEN: _("Calls of %(subject)s failed several times, and it is left alone."),
    Condition.CHECK_ERRORS: _("%(value)s %% of the health checks of %(subject)s fail."),
    Condition.CALL_ERRORS: _("%(value)s %% of the work that the service %(subject)s is given fails."),
    Condition.LATENCY: _("%(subject)s is slow: it answers health checks in %(value)s ms."),
    Condition.QUEUE_LENGTH: _("Commands that wait for a worker: %(value)s."),
    Condition.STUCK_COMMANDS: _("Commands that make no progress: %(value)s, such as %(detail)s."),
}


class Severity(models.TextChoices):
    INFO = "info", _("information")
    WARNING = "warning", _("warning")
    CRITICAL = "critical", _("critical")


class Percentile(models.IntegerChoices):
    P50 = 50, "50"
    P90 = 90, "90"
    P95 = 95, "95"
    P99 = 99, "99"


class AlarmRule(models.Model):
    """When people are to be told. Written by integrations.alarms.services alone."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    name = models.CharField(_("name"), max_length=100, blank=True, help_text=_("Empty: what it watches."))
    condition = models.CharField(_("condition"), max_length=20, choices=Condition)
    kind = models.CharField(_("service"), max_length=12, choices=ServiceKind, blank=True, help_text=_("Empty: all."))
    threshold = models.PositiveIntegerField(
        _("threshold"), null=True, blank=True,
        help_text=_("From this on. Percent, milliseconds, commands, or minutes without progress."),
    )  # fmt: skip
    percentile = models.PositiveSmallIntegerField(
        _("percentile"), choices=Percentile, null=True, blank=True,
        help_text=_("Of the latency."),
    )  # fmt: skip
    severity = models.CharField(_("severity"), max_length=8, choices=Severity, default=Severity.WARNING)
    wait = models.PositiveIntegerField(_("waits before firing"), default=60, help_text=_("Seconds that it must last."))
    resolve_wait = models.PositiveIntegerField(
        _("waits before it is over"), default=120,
        help_text=_("Seconds that all must be well."),
    )  # fmt: skip
    is_enabled = models.BooleanField(_("enabled"), default=True)
    created_at = models.DateTimeField(_("created"), auto_now_add=True)

    class Meta:
        verbose_name = _("alarm rule")
        verbose_name_plural = _("alarm rules")
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(
                    Q(condition__in=[each for each in Condition if each not in THRESHOLDS], threshold=None),
                    *(
                        Q(condition=condition, threshold__isnull=False, threshold__gte=lowest, threshold__lte=highest)
                        for condition, (lowest, highest, _unit) in THRESHOLDS.items()
                    ),
                    _connector=Q.OR,
                ),
                name="alarm_rule_threshold_fits_condition",
            ),
            models.CheckConstraint(
                condition=Q(kind="") | Q(kind__in=ServiceKind.values) & ~Q(condition__in=OF_NO_SERVICE),
                name="alarm_rule_kind_fits_condition",
            ),
            models.CheckConstraint(
                condition=Q(condition=Condition.LATENCY, percentile__isnull=False, percentile__in=Percentile.values)
                | Q(~Q(condition=Condition.LATENCY), percentile=None),
                name="alarm_rule_percentile_fits_condition",
            ),
            models.CheckConstraint(
                condition=Q(severity__in=Severity.values, wait__lte=LONGEST_WAIT, resolve_wait__lte=LONGEST_WAIT),
                name="alarm_rule_values_within_bounds",
            ),
        ]

    def __str__(self) -> str:
        return self.name or f"{self.get_condition_display()}{f' ({self.kind})' if self.kind else ''}"

    def clean(self) -> None:
        """Raise ValidationError, field by field, unless what was chosen goes together."""
        errors = dict(self._errors())
        if errors:
            raise ValidationError(errors)

    def _errors(self) -> Any:
        if self.condition not in Condition.values:
            return  # said already
        condition = Condition(self.condition)
        limits = THRESHOLDS.get(condition)
        if limits is None and self.threshold is not None:
            yield "threshold", _("This condition has none.")
        elif limits and (self.threshold is None or not limits[0] <= self.threshold <= limits[1]):
            bounds = {"lowest": limits[0], "highest": limits[1], "unit": limits[2]}
            yield "threshold", _("Must be from %(lowest)s to %(highest)s %(unit)s.") % bounds
        if condition in OF_NO_SERVICE and self.kind:
            yield "kind", _("This condition is about no service.")
        if (self.percentile is None) is (condition is Condition.LATENCY):
            sentence = _("This condition has none.") if self.percentile else _("Choose one: it is about latency.")
            yield "percentile", sentence
        for field in ("wait", "resolve_wait"):
            seconds = getattr(self, field)
            if seconds is not None and seconds > LONGEST_WAIT:
                yield field, _("At most %(count)s seconds.") % {"count": LONGEST_WAIT}
        if not self.name.isprintable():
            yield "name", _("Only printable characters can stand here.")


class AlarmState(models.TextChoices):
    """Stable names: clients may branch on them."""

    PENDING = "pending", _("pending")
    FIRING = "firing", _("firing")
    RESOLVED = "resolved", _("over")


NOT_OVER = (AlarmState.PENDING, AlarmState.FIRING)


class Alarm(models.Model):
    """What one rule found wrong with one thing, from the first sight of it to its end.

    `subject` is an instance (kind and base URL), a service's kind, or empty for the gateway itself. What the rule said
    is kept with it, because rules change and go. State and times are written by integrations.alarms.engine alone.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    rule = models.ForeignKey(
        AlarmRule, on_delete=models.SET_NULL, null=True, blank=True, related_name="alarms", db_index=False,
        verbose_name=_("rule"),
    )  # fmt: skip
    rule_name = models.CharField(_("name"), max_length=100, blank=True)
    condition = models.CharField(_("condition"), max_length=20, choices=Condition)
    severity = models.CharField(_("severity"), max_length=8, choices=Severity)
    subject = models.CharField(_("concerns"), max_length=330, blank=True)
    state = models.CharField(_("state"), max_length=8, choices=AlarmState, default=AlarmState.PENDING)
    value = models.PositiveIntegerField(_("value"), null=True, blank=True)
    detail = models.CharField(_("detail"), max_length=200, blank=True)
    since = models.DateTimeField(_("since"))
    fired_at = models.DateTimeField(_("fired"), null=True, blank=True)
    clear_since = models.DateTimeField(_("well since"), null=True, blank=True)
    resolved_at = models.DateTimeField(_("over since"), null=True, blank=True)
    is_unwatched = models.BooleanField(
        _("no longer watched"), default=False,
        help_text=_("It ended because its rule, or what it concerns, was changed or is gone."),
    )  # fmt: skip
    notified_at = models.DateTimeField(_("people told"), null=True, blank=True)
    acknowledged_at = models.DateTimeField(_("acknowledged"), null=True, blank=True)
    acknowledged_by = models.CharField(_("acknowledged by"), max_length=150, blank=True)
    silenced_until = models.DateTimeField(_("silenced until"), null=True, blank=True)

    class Meta:
        verbose_name = _("alarm")
        verbose_name_plural = _("alarms")
        default_permissions = ("view",)
        permissions: ClassVar = [
            ("acknowledge_alarm", "Can acknowledge alarms"),
            ("silence_alarm", "Can silence alarms, and end that"),
        ]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["rule", "subject"], condition=Q(state__in=NOT_OVER), name="alarm_once_at_a_time"
            ),
            models.CheckConstraint(
                condition=Q(state=AlarmState.PENDING, fired_at=None, resolved_at=None)
                | Q(state=AlarmState.FIRING, fired_at__isnull=False, resolved_at=None)
                | Q(state=AlarmState.RESOLVED, resolved_at__isnull=False),  # perhaps of one that never fired
                name="alarm_times_fit_state",
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["rule", "subject", "-id"], name="alarm_of_subject"),
            models.Index(fields=["-id"], name="alarm_not_over", condition=Q(state__in=NOT_OVER)),
        ]

    def __str__(self) -> str:
        return f"{self.title}: {self.subject}" if self.subject else self.title

    @property
    def title(self) -> str:
        return self.rule_name or str(self.get_condition_display())

    @property
    def sentence(self) -> str:
        """What is wrong, in the current language."""
        words = {"subject": self.subject, "value": self.value, "detail": self.detail}
        return str(SENTENCES[Condition(self.condition)]) % words

    def is_silenced(self, now: datetime) -> bool:
        return self.silenced_until is not None and self.silenced_until > now


class AlarmEventKind(models.TextChoices):
    """Stable names: the rooms above branch on them."""

    FIRED = "fired", _("fired")
    SILENCE_OVER = "silence_over", _("still firing after a silence")
    RESOLVED = "resolved", _("over")
    ACKNOWLEDGED = "acknowledged", _("acknowledged")
    SILENCED = "silenced", _("silenced")
    SILENCE_ENDED = "silence_ended", _("silence ended by somebody")


class AlarmEvent(models.Model):
    """One thing that happened to an alarm: its history, and the outbox of the news for the rooms above."""

    id = models.BigAutoField(primary_key=True)
    alarm = models.ForeignKey(Alarm, on_delete=models.CASCADE, related_name="events", verbose_name=_("alarm"))
    event = models.CharField(_("event"), max_length=20, choices=AlarmEventKind)
    at = models.DateTimeField(_("at"), auto_now_add=True)
    actor_name = models.CharField(_("by"), max_length=150, blank=True)
    reason = models.CharField(_("reason"), max_length=200, blank=True)
    is_notice = models.BooleanField(_("people told"), default=False)
    published_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name = _("event of an alarm")
        verbose_name_plural = _("events of alarms")
        default_permissions = ("view",)
        ordering = ("id",)
        indexes: ClassVar = [models.Index(fields=["at"], name="alarm_event_to_publish", condition=Q(published_at=None))]

    def __str__(self) -> str:
        return str(self.get_event_display())
