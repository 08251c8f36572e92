"""A command's life: its states, and which may follow which."""

from django.db import models
from django.utils.translation import gettext_lazy as _


class Status(models.TextChoices):
    QUEUED = "queued", _("queued")
    SEGMENTING = "segmenting", _("being split into tasks")
    RUNNING = "running", _("running")
    ARCHIVING = "archiving", _("being archived")
    CANCELLING = "cancelling", _("being cancelled")
    COMPLETED = "completed", _("completed")
    FAILED = "failed", _("failed")
    CANCELLED = "cancelled", _("cancelled")


class Stage(models.TextChoices):
    SEGMENTATION = "segmentation", _("segmentation")
    RUNNER = "runner", _("runner")
    ARCHIVE = "archive", _("archive")


TERMINAL = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED})

# A step by itself begins with its own stage, and is completed when that has ended.
TRANSITIONS: dict[Status, frozenset[Status]] = {
    Status.QUEUED: frozenset({Status.SEGMENTING, Status.RUNNING, Status.ARCHIVING, Status.CANCELLED, Status.FAILED}),
    Status.SEGMENTING: frozenset({Status.RUNNING, Status.COMPLETED, Status.CANCELLING, Status.FAILED}),
    Status.RUNNING: frozenset({Status.ARCHIVING, Status.COMPLETED, Status.CANCELLING, Status.FAILED}),
    Status.ARCHIVING: frozenset({Status.COMPLETED, Status.CANCELLING, Status.FAILED}),
    Status.CANCELLING: frozenset({Status.CANCELLED, Status.COMPLETED, Status.FAILED}),
    Status.COMPLETED: frozenset(),
    Status.FAILED: frozenset(),
    Status.CANCELLED: frozenset(),
}

STAGE_OF: dict[Status, Stage] = {
    Status.SEGMENTING: Stage.SEGMENTATION,
    Status.RUNNING: Stage.RUNNER,
    Status.ARCHIVING: Stage.ARCHIVE,
}
STATUS_OF: dict[Stage, Status] = {stage: status for status, stage in STAGE_OF.items()}
