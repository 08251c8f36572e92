"""Ends a command that its user wants to end. Only the runner has something to stop, and it has the last word."""

import logging
from datetime import datetime, timedelta

from celery.exceptions import SoftTimeLimitExceeded
from django.db import transaction
from django.utils import timezone

from commands.failures import is_retryable
from commands.leases import LeaseLostError, database_is_away, lease_renew
from commands.models import Command, CommandEvent, Outcome, StageRun
from commands.pipeline.attempts import begin_run, failure_of, finish_run, open_run, retry_window, runs_of
from commands.pipeline.intake import take_in, take_in_what_is_left
from commands.pipeline.remote import client_of
from commands.pipeline.stages import AFTER_ARCHIVE, STAGES
from commands.states import Stage, Status
from commands.transitions import StaleCommandError, command_event, command_transition
from files.formats import FormatError
from integrations.clients.base import WorkReport, WorkState
from integrations.clients.dialects import client_for
from integrations.clients.errors import NotFoundError, PermanentError, ServiceError
from integrations.registry import ServiceKind, choose

logger = logging.getLogger(__name__)

ASK_AGAIN_SECONDS = 1.0
# After these the runner certainly is not at work. After all else it may be: it may even have the work and say that it
# has not.
_CERTAIN = {"runner_refused", "runner_failed", "runner_cancelled", "runner_file_missing"}


def cancel_step(command: Command) -> datetime | None:
    """Stop what is going on. Return when to look again, or None if the command has ended."""
    runs = runs_of(command, Stage(str(command.stage)))
    if command.stage != Stage.RUNNER or not runs:
        _cancelled(command, runs)
        return None
    is_over = False
    try:
        run = open_run(runs)
        if run is None:
            asked = [each for each in runs if each.instance and not each.not_taken]  # the others gave it to nobody
            doubtful = [each for each in asked if each.error_code not in _CERTAIN]
            if not doubtful:
                _cancelled(command, [])
                return None
            run = _find_out(command, runs, doubtful[-1].instance)
        report = _stop(command, run)
        if report.state is WorkState.WORKING:
            return _unconfirmed(command)
        is_over = True
        _ended(command, run, report)
    except NotFoundError:
        _cancelled(command, runs_of(command, Stage.RUNNER))  # with the try that found it out
    except (StaleCommandError, LeaseLostError, SoftTimeLimitExceeded):
        raise
    except Exception as error:
        if database_is_away(error):
            raise
        logger.warning("the runner does not confirm the end of command %s", command.id, exc_info=error)
        return _unconfirmed(command, because=error if is_over else None)
    return None


def _find_out(command: Command, runs: list[StageRun], base_url: str) -> StageRun:
    """Ask the runner what it made of the work that it was given, to be stopped."""
    spec = STAGES[Stage.RUNNER]
    instance = choose(ServiceKind.RUNNER, prefer=base_url)
    run = begin_run(command, Stage.RUNNER, len(runs) + 1, instance.base_url)
    try:
        report = client_for(instance).recover(spec.request(command), idempotency_key=run.idempotency_key)
    except ServiceError as error:
        finish_run(run, Outcome.FAILED, code=f"runner_{error.reason}", cause=error.detail)
        raise
    run.remote_id = report.remote_id
    with transaction.atomic():
        lease_renew(command)
        run.save(update_fields=["remote_id"])
    return run


def _stop(command: Command, run: StageRun) -> WorkReport:
    client = client_of(run)
    lease_renew(command)
    try:
        client.cancel(run.remote_id)  # cancelling twice is no error
    except PermanentError as error:
        logger.info("the runner refuses to stop command %s: %r", command.id, error)  # because it is over, perhaps
    lease_renew(command)
    return client.report(run.remote_id)


def _ended(command: Command, run: StageRun, report: WorkReport) -> None:
    """The runner has stopped, or had finished before it could: keep what it left, and say which it was.

    Raises ServiceError or OSError if it had finished and its file cannot be had: then it is to be asked again.
    """
    spec, client, is_done = STAGES[Stage.RUNNER], client_of(run), report.state is WorkState.DONE
    try:
        left = take_in(command, spec, client, str(report.file_id)) if is_done else None
    except FormatError as error:
        logger.warning("the result of command %s is of no use: %s", command.id, error)
        _cancelled(command, [run])
        return
    if left is None:
        left = take_in_what_is_left(command, spec, client, report)
    with transaction.atomic():
        if left is not None:
            changes = left.save()
            command_event(command, "file", lease_owner=command.lease_owner, data=left.event_data, **changes)
        if is_done:
            command_transition(command, Status.COMPLETED, lease_owner=command.lease_owner, progress=AFTER_ARCHIVE)
            finish_run(run, Outcome.SUCCEEDED, remote_file_id=str(report.file_id))
        else:
            _cancelled(command, [run])


def _cancelled(command: Command, runs: list[StageRun], *, code: str = "") -> None:
    """End the command, for the reason for which it was to be stopped or for a graver one."""
    code = code or str(_request(command).data.get("code", ""))
    data = {"code": code, "stage": command.stage, "retryable": is_retryable(code)} if code else {}
    with transaction.atomic():
        changes = {"error_code": code, "error_stage": command.stage or ""} if code else {}
        command_transition(command, Status.CANCELLED, lease_owner=command.lease_owner, data=data, **changes)
        if runs and runs[-1].finished_at is None:
            finish_run(runs[-1], Outcome.CANCELLED, code=code)


def _unconfirmed(command: Command, *, because: Exception | None = None) -> datetime | None:
    """Ask again for a while; after that, say honestly that nobody knows.

    `because` of a run that is over is that its result cannot be had: then that is said, if nothing else is.
    """
    now, request = timezone.now(), _request(command)
    if now - request.at < retry_window():
        return now + timedelta(seconds=ASK_AGAIN_SECONDS)
    code = "cancel_unconfirmed" if because is None else request.data.get("code") or _code_of(because)
    _cancelled(command, runs_of(command, Stage.RUNNER), code=code)
    return None


def _code_of(error: Exception) -> str:
    """Return why a result could not be had."""
    if isinstance(error, ServiceError):
        return failure_of(Stage.RUNNER, error, fetching=True).code
    return "storage_unavailable" if isinstance(error, OSError) else "internal_error"


def _request(command: Command) -> CommandEvent:
    """Return the event that says why and since when the command is to be stopped."""
    return command.events.filter(event=Status.CANCELLING).latest("seq")
