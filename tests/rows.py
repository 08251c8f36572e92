"""A command that has been all the way, for tests of how it is shown."""

from datetime import timedelta

from django.utils import timezone

from accounts.models import User
from commands.models import Command, CommandEvent, CommandResult, Outcome, StageRun
from commands.states import Stage, Status
from files.models import Kind
from files.tests.rows import stored_file

STEPS = (Status.QUEUED, Status.SEGMENTING, Status.RUNNING, Status.ARCHIVING, Status.COMPLETED)


def ended_command(user: User, *, text: str = "echo Merhaba", repeats: int = 1) -> Command:
    """Return a completed command with its files, tries, events and result; `repeats` makes more of what is many."""
    now = timezone.now()
    alt, last, atlas = (stored_file(user, kind=kind, name=f"a.{kind}") for kind in Kind)
    command = Command.objects.create(
        user=user,
        text=text,
        status=Status.COMPLETED,
        progress=100,
        started_at=now,
        finished_at=now + timedelta(seconds=1),
        last_seq=len(STEPS) * repeats,
        alt_file=alt,
        last_file=last,
        atlas_file=atlas,
    )
    for attempt in range(1, repeats + 1):
        _tries(command, attempt)
    _events(command, repeats)
    CommandResult.objects.create(command=command, success_rate=1, summary="done", output="Merhaba", tasks=[])
    return command


def ended_step(user: User, kind: Stage, *, repeats: int = 1) -> Command:
    """Return a completed step by itself."""
    step = ended_command(user, repeats=repeats)
    step.only_stage = kind
    step.save(update_fields=["only_stage"])
    step.stage_runs.exclude(stage=kind).delete()
    return step


def _tries(command: Command, attempt: int) -> None:
    for stage in Stage:
        StageRun.objects.create(
            command=command,
            stage=stage,
            attempt=attempt,
            idempotency_key=f"{command.id}:{stage}",
            finished_at=command.finished_at,
            outcome=Outcome.SUCCEEDED,
        )


def _events(command: Command, repeats: int) -> None:
    CommandEvent.objects.bulk_create(
        CommandEvent(command=command, seq=seq, event=status, status=status, progress=0)
        for seq, status in enumerate(STEPS * repeats, start=1)
    )
