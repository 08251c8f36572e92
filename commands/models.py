from typing import Any, ClassVar

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q, Value
from django.db.models.functions import Coalesce
from django.utils.translation import gettext_lazy as _

from accounts.models import Role
from commands.states import TERMINAL, Stage, Status
from files.models import StoredFile
from gateway.ids import new_id
from integrations.clients.errors import Reason

MAX_PERSONA = 64
_ENDED_BADLY = [Status.FAILED, Status.CANCELLED]


class Mode(models.TextChoices):
    NORMAL = "normal", _("normal")
    DREAM = "dream", _("dream")
    EXPLORE = "explore", _("explore")
    CHAOS = "chaos", _("chaos")


class Priority(models.TextChoices):
    LOW = "low", _("low")
    NORMAL = "normal", _("normal")
    HIGH = "high", _("high")


def _file_field(name: str) -> "models.ForeignKey[StoredFile | None, StoredFile | None]":
    return models.ForeignKey(
        StoredFile, on_delete=models.SET_NULL, null=True, blank=True, related_name="+", verbose_name=name
    )


class Command(models.Model):
    """What a person asked for, and how far it has come. One with an `only_stage` is a step by itself.

    A foreign key without an index of its own (here and below) leads one of those in Meta.
    `status` is written by commands.transitions alone, the lease and `due_at` by commands.leases alone.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="commands", db_index=False
    )
    text = models.TextField()
    mode = models.CharField(max_length=10, choices=Mode.choices, default=Mode.NORMAL)
    chaos_level = models.PositiveSmallIntegerField(null=True, blank=True)
    persona = models.CharField(max_length=MAX_PERSONA, default="technical_expert")
    priority = models.CharField(max_length=6, choices=Priority.choices, default=Priority.NORMAL)
    parameters = models.JSONField(default=dict, blank=True)
    metadata = models.JSONField(default=dict, blank=True)
    tags = models.JSONField(default=list, blank=True)
    target = models.CharField(
        max_length=50, blank=True, default="", help_text=_("the tag that an instance must have to get it"),
        db_default="",  # the release before this one inserts rows too, while both run
    )  # fmt: skip
    deadline = models.DateTimeField(
        null=True, blank=True, help_text=_("not begun by then, it fails; else, it is stopped")
    )
    request_id = models.CharField(max_length=100, blank=True)
    idempotency_key = models.CharField(max_length=255, null=True, blank=True)  # noqa: DJ001 - NULLs do not collide
    idempotency_hash = models.CharField(max_length=64, blank=True)

    only_stage = models.CharField(  # noqa: DJ001 - null: all of them
        max_length=12,
        choices=Stage.choices,
        null=True,
        blank=True,
        help_text=_("a step by itself: this stage is done, and no other"),
    )
    begins_with = models.CharField(  # noqa: DJ001 - null: with the first
        max_length=12, choices=Stage.choices, null=True, blank=True, help_text=_("the stage that a retry goes on with")
    )
    status = models.CharField(max_length=10, choices=Status.choices, default=Status.QUEUED)
    stage = models.CharField(max_length=12, choices=Stage.choices, null=True, blank=True)  # noqa: DJ001 - null in the API
    progress = models.PositiveSmallIntegerField(default=0)
    last_seq = models.PositiveIntegerField(default=0, help_text=_("number of the newest event"))
    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    error_code = models.CharField(max_length=50, blank=True)
    error_cause = models.CharField(max_length=500, blank=True, help_text=_("what a service or a check said"))
    error_stage = models.CharField(max_length=12, choices=Stage.choices, blank=True)

    retry_of = models.ForeignKey("self", on_delete=models.SET_NULL, null=True, blank=True, related_name="retries")

    alt_file = _file_field(".alt")
    last_file = _file_field(".last")
    atlas_file = _file_field(".atlas")

    # Work is claimed with a lease, in the order of commands.queue. Both times are null when the command has ended.
    lease_owner = models.CharField(max_length=100, blank=True)
    lease_expires_at = models.DateTimeField(null=True, blank=True)
    due_at = models.DateTimeField(null=True, blank=True, help_text=_("from then on there is something to do"))
    turn_at = models.DateTimeField(
        null=True, blank=True, help_text=_("its place among those that wait to be handed to a service")
    )
    held = models.BooleanField(
        default=False, db_default=False, help_text=_("its user has as many commands in flight as they may have")
    )
    deaths = models.PositiveSmallIntegerField(
        default=0, db_default=0, help_text=_("workers that died over it, one after another")
    )

    class Meta:
        ordering = ("-id",)
        # Django's own permissions are for the commands of anybody, in the admin pages.
        permissions: ClassVar = [
            ("read_own_command", "Can read own commands"),
            ("submit_command", "Can submit commands"),
            ("cancel_own_command", "Can cancel own commands"),
            ("submit_step", "Can submit steps by themselves"),
            ("search_own_archive", "Can search own results in the archive"),
            ("cancel_command", "Can cancel the commands of anybody"),
            ("retry_command", "Can retry the commands of anybody"),
            ("requeue_command", "Can requeue the commands of anybody"),
        ]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["user", "idempotency_key"],
                name="command_idempotency_key_unique",
                condition=Q(idempotency_key__isnull=False),
            ),
            models.CheckConstraint(
                condition=Q(finished_at__isnull=False, due_at__isnull=True, turn_at__isnull=True, held=False)
                | Q(finished_at__isnull=True, due_at__isnull=False),
                name="command_is_due_until_it_has_ended",
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["user", "-id"], name="command_of_user"),
            models.Index(fields=["user", "status", "-id"], name="command_of_user_by_status"),
            # Small whatever the history: they hold only what is not finished. The first two are the claim's.
            models.Index(
                Coalesce("stage", Value(Stage.SEGMENTATION.value)),
                "turn_at",
                name="command_waiting",
                condition=Q(finished_at__isnull=True, held=False, turn_at__isnull=False),
            ),
            models.Index(
                Coalesce("stage", Value(Stage.SEGMENTATION.value)),
                "due_at",
                name="command_in_work",
                condition=Q(finished_at__isnull=True, held=False, turn_at__isnull=True),
            ),
            models.Index(fields=["user", "turn_at"], name="command_held", condition=Q(held=True)),
            models.Index(fields=["user", "held"], name="command_unfinished", condition=Q(finished_at__isnull=True)),
            models.Index(
                fields=["deadline"],
                name="command_by_deadline",
                condition=Q(deadline__isnull=False, finished_at__isnull=True),
            ),
            models.Index(fields=["finished_at"], name="command_ended", condition=Q(finished_at__isnull=False)),
            # What is rare is found at once in the admin pages, and what is not, by the primary key.
            models.Index(fields=["status", "-id"], name="command_ended_badly", condition=Q(status__in=_ENDED_BADLY)),
            models.Index(fields=["error_code", "-id"], name="command_with_error", condition=~Q(error_code="")),
            models.Index(fields=["mode", "-id"], name="command_of_rare_mode", condition=~Q(mode=Mode.NORMAL)),
            models.Index(fields=["priority", "-id"], name="command_of_rare_priority", condition=~Q(priority="normal")),
            # What is searched for is found by `command_search` (migration 0012), on PostgreSQL.
        ]

    def __str__(self) -> str:
        return self.text[:60] or str(self.get_only_stage_display() or "")

    @property
    def has_ended(self) -> bool:
        return self.status in TERMINAL

    @property
    def work_stage(self) -> Stage:
        """The stage whose workers have what there is to do."""
        return Stage(self.stage or Stage.SEGMENTATION)

    @property
    def files(self) -> list[StoredFile]:
        return [file for file in (self.alt_file, self.last_file, self.atlas_file) if file is not None]


class CommandLimit(models.Model):
    """How many commands a user may have in flight: this user, each user of this role, or everybody else."""

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, null=True, blank=True, related_name="+",
        verbose_name=_("user"),
    )  # fmt: skip
    role = models.OneToOneField(
        Role, on_delete=models.CASCADE, null=True, blank=True, related_name="+", verbose_name=_("role")
    )
    in_flight = models.PositiveIntegerField(_("commands in flight"), validators=[MinValueValidator(1)])

    class Meta:
        verbose_name = _("limit of commands")
        verbose_name_plural = _("limits of commands")
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(user__isnull=True) | Q(role__isnull=True),
                name="command_limit_of_one",
                violation_error_message=_("A limit is for a user or for a role, not for both."),
            ),
            models.UniqueConstraint(
                Value(1),
                condition=Q(user__isnull=True, role__isnull=True),
                name="command_limit_of_everybody",
                violation_error_message=_("There is a limit for everybody already."),
            ),
        ]

    def __str__(self) -> str:
        return str(self.user or self.role or _("everybody"))


class CommandEvent(models.Model):
    """One numbered thing that happened to a command: history, audit, outbox and replay log at once.

    On PostgreSQL the table is partitioned by months (commands.partitions).
    """

    pk = models.CompositePrimaryKey("command_id", "seq")
    command = models.ForeignKey(Command, on_delete=models.CASCADE, related_name="events", db_index=False)
    seq = models.PositiveIntegerField()
    event = models.CharField(max_length=30)
    status = models.CharField(max_length=10, choices=Status.choices)
    stage = models.CharField(max_length=12, choices=Stage.choices, null=True, blank=True)  # noqa: DJ001 - null in the API
    progress = models.PositiveSmallIntegerField()
    data = models.JSONField(default=dict, blank=True)
    at = models.DateTimeField(auto_now_add=True)
    broadcast_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("command", "seq")
        indexes: ClassVar = [
            models.Index(fields=["at"], name="event_to_broadcast", condition=Q(broadcast_at__isnull=True))
        ]

    def __str__(self) -> str:
        return f"{self.seq}. {self.event}"


class Outcome(models.TextChoices):
    SUCCEEDED = "succeeded", _("succeeded")
    FAILED = "failed", _("failed")
    ABANDONED = "abandoned", _("abandoned: the worker died")
    CANCELLED = "cancelled", _("cancelled")


class StageRun(models.Model):
    """One try of one stage: the timeline that a person reads to learn why a command is slow or stuck."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    command = models.ForeignKey(Command, on_delete=models.CASCADE, related_name="stage_runs", db_index=False)
    stage = models.CharField(max_length=12, choices=Stage.choices)
    attempt = models.PositiveSmallIntegerField()
    instance = models.CharField(max_length=500, blank=True)
    idempotency_key = models.CharField(max_length=100)
    remote_id = models.CharField(max_length=255, blank=True, help_text=_("the service's name for this work"))
    remote_file_id = models.CharField(max_length=255, blank=True)
    reported = models.JSONField(null=True, blank=True, help_text=_("how the work ended, as the runner itself said"))
    polls = models.PositiveIntegerField(default=0)
    unanswered_since = models.DateTimeField(null=True, blank=True)
    started_at = models.DateTimeField(auto_now_add=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    outcome = models.CharField(max_length=10, choices=Outcome.choices, blank=True)
    # The instance has certainly done nothing of it: it could not be reached, or said so. In doubt it may have.
    not_taken = models.BooleanField(default=False, db_default=False)
    error_code = models.CharField(max_length=50, blank=True)
    error_cause = models.CharField(max_length=500, blank=True)

    class Meta:
        ordering = ("command", "id")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["command", "stage", "attempt"], name="stage_run_attempt_unique")
        ]
        indexes: ClassVar = [
            models.Index(fields=["remote_id"], name="stage_run_of_archive_entry", condition=Q(stage=Stage.ARCHIVE))
        ]

    def __str__(self) -> str:
        return f"{self.stage} {self.attempt}"

    @property
    def found_service_busy(self) -> bool:
        return self.error_code == f"{self.stage}_{Reason.BUSY}"


class CommandResult(models.Model):
    """What came out: read from the `.alt` and the `.last` once, when the run ended."""

    command = models.OneToOneField(Command, on_delete=models.CASCADE, primary_key=True, related_name="result")
    success_rate = models.FloatField()
    summary = models.TextField(blank=True)
    output = models.TextField(blank=True)
    tasks: "models.JSONField[list[dict[str, Any]], list[dict[str, Any]]]" = models.JSONField(default=list)

    def __str__(self) -> str:
        return self.summary[:60]


class Kept(models.TextChoices):
    """What a rule of retention is about."""

    COMMANDS = "commands", _("commands and all that belongs to them")
    EVENTS = "events", _("events")
    STAGE_RUNS = "stage_runs", _("tries of stages")
    FILES = "files", _("files")


MAX_KEEP_DAYS = 36_500


class RetentionRule(models.Model):
    """For how long something is kept of the commands that ended in one way. Those of a migration are all there are.

    `keep_days` is written by commands.retention_rules, the rest by commands.retention.
    """

    what = models.CharField(_("what"), max_length=10, choices=Kept)
    status = models.CharField(_("of commands that are"), max_length=10, choices=Status)
    keep_days = models.PositiveIntegerField(
        _("kept for days"), null=True, blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(MAX_KEEP_DAYS)],
        help_text=_("From the end of the command. Empty: for as long as the command, and commands for ever."),
    )  # fmt: skip
    # Of the commands that had ended by then, in this order, it has all been deleted. None: begin anew.
    done_at = models.DateTimeField(_("done up to"), null=True, blank=True, editable=False)
    done_id = models.UUIDField(null=True, blank=True, editable=False)
    deleted = models.PositiveBigIntegerField(_("deleted so far"), default=0, editable=False)

    class Meta:
        verbose_name = _("retention rule")
        verbose_name_plural = _("retention rules")
        default_permissions = ("view", "change")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["what", "status"], name="retention_rule_unique"),
            models.CheckConstraint(
                condition=Q(keep_days=None) | Q(keep_days__gte=1, keep_days__lte=MAX_KEEP_DAYS),
                name="retention_rule_days_within_bounds",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.get_what_display()}: {self.get_status_display()}"


class CommandRollup(models.Model):
    """What ended in one hour, counted: of one user, and alike in mode, end and error. It outlives the commands.

    `took` is from the creation to the end; `within_...` is how many took no longer than that.
    """

    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="+", db_index=False)
    hour = models.DateTimeField()
    mode = models.CharField(max_length=10, choices=Mode.choices)
    status = models.CharField(max_length=10, choices=Status.choices)
    error_code = models.CharField(max_length=50, blank=True)
    number = models.PositiveIntegerField()
    took_sum = models.DurationField()
    took_max = models.DurationField()
    within_200ms = models.PositiveIntegerField()
    within_500ms = models.PositiveIntegerField()
    within_1s = models.PositiveIntegerField()
    within_2s = models.PositiveIntegerField()
    within_5s = models.PositiveIntegerField()
    within_10s = models.PositiveIntegerField()
    within_30s = models.PositiveIntegerField()
    within_1m = models.PositiveIntegerField()
    within_5m = models.PositiveIntegerField()
    within_1h = models.PositiveIntegerField()

    class Meta:
        default_permissions = ()
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["user", "hour", "mode", "status", "error_code"], name="rollup_unique")
        ]
        indexes: ClassVar = [models.Index(fields=["hour"], name="rollup_of_all")]

    def __str__(self) -> str:
        return f"{self.hour:%Y-%m-%d %H}: {self.number} {self.status}"


class RollupMark(models.Model):
    """The one row that says how far the rollups go: they count what ended before `until`, and nothing else."""

    until = models.DateTimeField()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return str(self.until)
