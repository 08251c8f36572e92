"""Tries of a stage: when one begins, how it ends, and whether there is another."""

import random
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from commands.failures import is_retryable
from commands.leases import lease_renew
from commands.models import Command, Outcome, StageRun
from commands.queue import turn_of
from commands.states import STATUS_OF, Stage, Status
from commands.transitions import StaleCommandError, command_event, command_transition
from gateway.rows import insert, select, update
from integrations.clients.errors import (
    NotFoundError,
    NotTakenError,
    PermanentError,
    Reason,
    ServiceError,
    TransientError,
)

BEGUN = 5  # percent
MAX_INVALID = 3
FIRST_RETRY_SECONDS = 0.5
MAX_RETRY_SECONDS = 8.0


@dataclass(frozen=True)
class Failure:
    """Why a try failed: the code for the person, what was said, and whether another try can help."""

    code: str
    cause: str = ""
    transient: bool = False  # try again for as long as the window lasts
    doubtful: bool = False  # try again a few times
    busy: bool = False  # nothing is wrong, and nothing was handed over: wait, however long it takes
    not_taken: bool = False  # the service certainly did nothing
    retry_after: float | None = None


def failure_of(stage: Stage, error: ServiceError, *, accepted: bool = False, fetching: bool = False) -> Failure:
    """Say what an error of a service means for the try: before the service accepted the work, or after, or at its end.

    A service that has accepted nothing and says 404 does not know the call: its address is wrong, perhaps.
    """
    knows_no_call = isinstance(error, NotFoundError) and not accepted and not fetching
    reason = "unknown_call" if knows_no_call else str(error.reason)
    if isinstance(error, NotFoundError) and fetching:
        reason = "file_missing"
    return Failure(
        code=f"{stage}_{reason}",
        cause=error.detail,
        transient=isinstance(error, TransientError),
        doubtful=not isinstance(error, TransientError | PermanentError),
        busy=error.reason is Reason.BUSY,
        not_taken=knows_no_call or (isinstance(error, NotTakenError) and not fetching),
        retry_after=error.retry_after,
    )


def runs_of(command: Command, stage: Stage) -> list[StageRun]:
    """Return the tries of a stage so far, in order."""
    return select(StageRun, {"command": command, "stage": stage}, order="attempt")


def earlier_runs(command: Command, run: StageRun) -> list[StageRun]:
    return [each for each in runs_of(command, Stage(run.stage)) if each.attempt < run.attempt]


def unfinished(runs: list[StageRun]) -> StageRun | None:
    return runs[-1] if runs and runs[-1].finished_at is None else None


def open_run(runs: list[StageRun]) -> StageRun | None:
    """Return the try that a service is working on, if there is one.

    A try that was begun but never got an answer belongs to a worker that died: it is put down as abandoned.
    """
    run = unfinished(runs)
    if run is not None and not run.remote_id:
        finish_run(run, Outcome.ABANDONED, code="worker_lost")
        return None
    return run


def instance_that_may_have_it(runs: list[StageRun]) -> str | None:
    """Return the instance that the work was handed to, perhaps in vain: any other one would do it a second time."""
    return next((run.instance for run in reversed(runs) if run.instance and not run.not_taken), None)


def last_failed_instance(runs: list[StageRun]) -> str | None:
    return next((run.instance for run in reversed(runs) if run.outcome == Outcome.FAILED), None)


def begin_run(command: Command, stage: Stage, attempt: int, instance: str) -> StageRun:
    """Open the next try; with the first of all, the command leaves the queue.

    The key is the same for every try: a service does the work once.
    """
    lease_renew(command)
    run = StageRun(
        command=command, stage=stage, attempt=attempt, instance=instance, idempotency_key=f"{command.id}:{stage}"
    )
    if command.status != Status.QUEUED:
        insert(run)
        return run
    with transaction.atomic():
        begun = max(command.progress, BEGUN)
        command_transition(command, STATUS_OF[stage], lease_owner=command.lease_owner, progress=begun)
        insert(run)
    return run


def finish_run(run: StageRun, outcome: Outcome, *, code: str = "", cause: str = "", remote_file_id: str = "") -> None:
    """End the try. Raises StaleCommandError if somebody else has ended it.

    Within a transaction, after the command is written: whoever needs both rows takes the command first.
    """
    now = timezone.now()
    changes = {
        "outcome": outcome,
        "remote_id": run.remote_id,
        "remote_file_id": remote_file_id,
        "error_code": code,
        "error_cause": cause[:500],
        "not_taken": run.not_taken,
        "finished_at": now,
    }
    if not update(StageRun, {"id": run.id, "finished_at": None}, changes):
        raise StaleCommandError
    run.outcome, run.error_code, run.finished_at = outcome, code, now


def run_not_taken(run: StageRun) -> None:
    """Put down that nobody has the work. At once: ending the try may fail, as when the command is being cancelled."""
    if not run.remote_id:
        run.not_taken = True
        StageRun.objects.filter(id=run.id, finished_at=None).update(not_taken=True)


def run_failed(command: Command, run: StageRun, failure: Failure) -> datetime | None:
    """End the try. Return when to try again; or fail the command and return None, if no further try can help.

    Of a wait that goes on the try is taken back.
    """
    command.turn_at = None  # unless it has to wait for its turn again
    if failure.busy and waits_already(earlier_runs(command, run)):
        run_undo(command, run)
        return wait_for_place(command, earlier_runs(command, run))
    retry_at = None if _is_final(command, run, failure) else timezone.now() + _delay(run, failure)
    with transaction.atomic():
        if retry_at is None:
            command_fail(command, failure.code, failure.cause)
        else:
            data = {
                "stage": run.stage,
                "attempt": run.attempt,
                "code": failure.code,
                "next_attempt_at": retry_at.isoformat().replace("+00:00", "Z"),
            }
            command_event(command, "retrying", lease_owner=command.lease_owner, data=data)
        finish_run(run, Outcome.FAILED, code=failure.code, cause=failure.cause)
    return wait_for_place(command, earlier_runs(command, run)) if failure.busy else retry_at


def waits_already(runs: list[StageRun]) -> bool:
    """Return whether the command has found the service busy before.

    How a wait begins is kept as a try, so that people see it. What follows is none, and leaves no trace: there may be
    thousands.
    """
    return bool(runs) and runs[-1].found_service_busy


def wait_for_place(command: Command, runs: list[StageRun]) -> datetime:
    """Let the command wait in its turn until its service is less busy. Return when to look again.

    Work that an instance may have can go nowhere else, so it does not hold up others: it is looked at by itself.
    """
    if instance_that_may_have_it(runs) is None:
        command.turn_at = turn_of(command)
        return timezone.now()
    command.turn_at = None
    return timezone.now() + _with_jitter(FIRST_RETRY_SECONDS)


def run_undo(command: Command, run: StageRun) -> None:
    """Take back a try that certainly handed nothing over. Raises StaleCommandError if somebody else has ended it."""
    with transaction.atomic():
        lease_renew(command)
        deleted, _each = StageRun.objects.filter(id=run.id, finished_at=None).delete()
        if not deleted:
            raise StaleCommandError


def run_unanswered(command: Command, run: StageRun, failure: Failure) -> datetime | None:
    """The service has the work but cannot be asked at the moment. Ask again, until the window is over."""
    now = timezone.now()
    since = run.unanswered_since or now
    if now - since >= retry_window():
        return run_failed(command, run, Failure(failure.code, failure.cause))
    run.unanswered_since = since
    run.polls += 1
    command.turn_at = None  # it is handed over
    with transaction.atomic():
        lease_renew(command)
        run.save(update_fields=["unanswered_since", "polls"])
    elapsed = (now - since).total_seconds()
    return now + timedelta(
        seconds=max(min(max(elapsed, FIRST_RETRY_SECONDS), MAX_RETRY_SECONDS), failure.retry_after or 0)
    )


def command_fail(command: Command, code: str, cause: str = "") -> None:
    stage = command.stage or ""
    command_transition(
        command,
        Status.FAILED,
        lease_owner=command.lease_owner,
        data={"code": code, "stage": command.stage, "retryable": is_retryable(code)},
        error_code=code,
        error_cause=cause[:500],
        error_stage=stage,
    )


def retry_window() -> timedelta:
    return timedelta(seconds=settings.STAGE_RETRY_WINDOW)


def _is_final(command: Command, run: StageRun, failure: Failure) -> bool:
    earlier = earlier_runs(command, run)
    if failure.doubtful:
        return sum(each.error_code == failure.code for each in earlier) + 1 >= MAX_INVALID
    if failure.busy:
        return False
    if not failure.transient:
        return True
    # The window begins with the first of the tries in a row that no service accepted, though it was not busy.
    began_at = run.started_at
    for each in reversed(earlier):
        if each.remote_id or each.found_service_busy:
            break
        began_at = each.started_at
    return timezone.now() - began_at >= retry_window()


def _delay(run: StageRun, failure: Failure) -> timedelta:
    """Exponential, up to a limit; a wait for a busy service begins anew."""
    doublings = 0 if failure.busy else min(run.attempt - 1, 10)  # enough for the limit; a float takes about 1000
    seconds = min(FIRST_RETRY_SECONDS * 2**doublings, MAX_RETRY_SECONDS)
    return max(_with_jitter(seconds), timedelta(seconds=failure.retry_after or 0))


def _with_jitter(seconds: float) -> timedelta:
    """So that commands that failed together do not come back together."""
    return timedelta(seconds=seconds * random.uniform(0.8, 1.2))  # noqa: S311 - guards nothing
