"""What Prometheus is told of commands. Only what has not finished is looked at, and no more than COUNTED of it."""

from collections.abc import Iterator

from django.db.models import Count, Q
from django.utils import timezone
from prometheus_client.core import CounterMetricFamily, Metric

from commands.alarms import waiting_commands
from commands.models import Command, RetentionRule
from commands.states import TERMINAL, Stage, Status
from gateway.metrics import collector, gauge

COUNTED = 100_000


@collector("commands")
def commands() -> Iterator[Metric]:
    going_on = [status for status in Status if status not in TERMINAL]
    by_status = {status.value: Count("pk", filter=Q(status=status)) for status in going_on}
    unfinished = Command.objects.filter(finished_at=None).order_by()[:COUNTED].aggregate(**by_status)
    commands = gauge(
        "gateway_commands",
        f"Commands that have not finished, steps by themselves too. Counts {COUNTED} at most.",
        "status",
    )
    for status in going_on:
        commands.add_metric([status.value], unfinished[status.value])
    yield commands

    # As Command.work_stage: a command without a stage waits for the first.
    of_stage = {stage.value: Q(stage=stage) for stage in Stage}
    of_stage[Stage.SEGMENTATION.value] |= Q(stage=None)
    by_stage = {stage: Count("pk", filter=condition) for stage, condition in of_stage.items()}
    counts = waiting_commands(timezone.now())[:COUNTED].aggregate(**by_stage)
    waiting = gauge(
        "gateway_commands_waiting", f"Commands that are due and that no worker has. Counts {COUNTED} at most.", "stage"
    )
    for stage in Stage:
        waiting.add_metric([stage.value], counts[stage.value])
    yield waiting


@collector("retention")
def retention() -> Iterator[Metric]:
    labels = ("what", "status")
    deleted = CounterMetricFamily("gateway_retention_deleted", "Rows that a rule of retention deleted.", labels=labels)
    done = gauge(
        "gateway_retention_done_timestamp_seconds",
        "Of the commands that had ended by then, a rule has deleted all that it is about.",
        *labels,
    )
    for rule in RetentionRule.objects.order_by("pk"):
        deleted.add_metric([rule.what, rule.status], rule.deleted)
        if rule.keep_days is not None and rule.done_at is not None:
            done.add_metric([rule.what, rule.status], rule.done_at.timestamp())
    yield deleted
    yield done
