"""One step of a stage: hand the work over, or ask how it is going, and take in what is finished.

1. Is a service working on it? Then ask it. Else begin a try and hand the work over.
2. Still working: remember whom to ask for what, and look again later.
3. Done: fetch the file, check it, store it; then, in one transaction, end the try and move the command on.
4. Anything wrong: end the try, and see whether another one can help.
"""

import logging
from datetime import datetime, timedelta
from typing import Any

from celery.exceptions import SoftTimeLimitExceeded
from django.conf import settings
from django.db import transaction
from django.utils import timezone

from commands.leases import NEWS_INTERVAL, LeaseLostError, database_is_away, lease_renew
from commands.models import Command, Outcome, StageRun
from commands.pipeline.attempts import (
    Failure,
    begin_run,
    failure_of,
    finish_run,
    instance_that_may_have_it,
    last_failed_instance,
    open_run,
    run_failed,
    run_not_taken,
    run_unanswered,
    runs_of,
    wait_for_place,
    waits_already,
)
from commands.pipeline.intake import take_in, take_in_what_is_left
from commands.pipeline.remote import client_of, stop_remote_work
from commands.pipeline.stages import STAGES, progress_of_run
from commands.states import Stage, Status
from commands.transitions import StaleCommandError, command_event, command_transition
from files.formats import FormatError
from gateway.rows import update
from integrations.clients.base import StageClient, WorkReport, WorkState
from integrations.clients.dialects import client_for
from integrations.clients.errors import ServiceError, TransientError
from integrations.health import call_failed
from integrations.registry import ServiceKind, choose

logger = logging.getLogger(__name__)

# Whether a service is asked as soon as it has accepted work: what takes no time is done by then.
POLLS_AT_ONCE = True
FIRST_POLL_SECONDS = 0.1
MAX_POLL_SECONDS = 10.0


def stage_step(command: Command, stage: Stage) -> datetime | None:
    """Take one step. Return when to look again, or None if the command moved on or ended."""
    runs = [] if command.status == Status.QUEUED else runs_of(command, stage)
    run = open_run(runs)
    if run is None:
        return _submit(command, stage, runs)
    if timezone.now() - run.started_at > timedelta(seconds=settings.STAGE_TIME_LIMIT):
        stop_remote_work(command, run)
        return run_failed(command, run, Failure(f"{stage}_time_limit"))
    return _ask(command, run)


def _submit(command: Command, stage: Stage, runs: list[StageRun]) -> datetime | None:
    spec, attempt, base_url = STAGES[stage], len(runs) + 1, ""
    try:
        instance = choose(
            ServiceKind(stage),
            tag=command.target or None,
            prefer=instance_that_may_have_it(runs),
            avoid=last_failed_instance(runs),
        )
        base_url = instance.base_url
        client = client_for(instance)
    except TransientError as error:
        failure = failure_of(stage, error)
        if failure.busy and waits_already(runs):
            return wait_for_place(command, runs)
        return _failed(command, begin_run(command, stage, attempt, base_url), failure)
    run = begin_run(command, stage, attempt, base_url)

    def submit() -> WorkReport:
        return client.submit(spec.request(command), idempotency_key=run.idempotency_key)

    look_again_at = _guarded(command, run, client, submit)
    is_accepted = run.polls == 1 and run.unanswered_since is None
    return _report(command, run, client) if is_accepted and POLLS_AT_ONCE else look_again_at


def _ask(command: Command, run: StageRun) -> datetime | None:
    try:
        client = client_of(run)
    except TransientError as error:
        return run_unanswered(command, run, failure_of(Stage(run.stage), error))
    return _report(command, run, client)


def _report(command: Command, run: StageRun, client: StageClient[Any]) -> datetime | None:
    lease_renew(command)
    return _guarded(command, run, client, lambda: client.report(run.remote_id))


def _guarded(command: Command, run: StageRun, client: StageClient[Any], get_report: Any) -> datetime | None:
    """Get the report and act on it; turn whatever goes wrong into the end of the try, or into asking again."""
    stage = Stage(run.stage)
    fetching = no_answer = False
    try:
        report = get_report()
        if report.state is WorkState.WORKING:
            return _still_working(command, run, report)
        if report.state is not WorkState.DONE:
            _not_done(command, run, client, report)
            return None
        fetching = True
        _take_in(command, run, client, report)
    except (StaleCommandError, LeaseLostError, SoftTimeLimitExceeded):
        raise
    except ServiceError as error:
        failure = failure_of(stage, error, accepted=bool(run.remote_id), fetching=fetching)
        no_answer = error.no_answer
    except FormatError as error:
        failure = Failure(error.code, str(error))
    except OSError:
        logger.exception("storage failed for command %s", command.id)
        # A client raises no OSError. So before there was a report, it was what is to be sent that could not be read.
        failure = Failure("storage_unavailable", transient=True, not_taken=not fetching)
    except Exception as error:
        _raise_if_no_fault_of_the_try(error)
        logger.exception("stage %s of command %s", stage, command.id)
        failure = Failure("internal_error", doubtful=True)
    else:
        return None
    look_again_at = _failed(command, run, failure)
    if no_answer:
        _tell_health(client, failure.code.removeprefix(f"{stage}_"))
    return look_again_at


def _raise_if_no_fault_of_the_try(error: Exception) -> None:
    if database_is_away(error):
        raise error


def _failed(command: Command, run: StageRun, failure: Failure) -> datetime | None:
    if run.remote_id and failure.transient:
        return run_unanswered(command, run, failure)  # the service has the work: it is not given it again
    if failure.not_taken:
        run_not_taken(run)
    return run_failed(command, run, failure)


def _tell_health(client: StageClient[Any], reason: str) -> None:
    """An instance that was called and did not answer may be ill. One that answers is not, whatever it says."""
    try:
        call_failed(client.instance.kind, client.instance.base_url, reason)
    except SoftTimeLimitExceeded:
        raise
    except Exception:
        logger.exception("could not count a call that failed of %s", client.instance.base_url)


def _still_working(command: Command, run: StageRun, report: WorkReport) -> datetime:
    if not run.remote_id:
        run.remote_id = report.remote_id
    delay = min(FIRST_POLL_SECONDS * 2 ** min(run.polls, 10), MAX_POLL_SECONDS)
    if run.reported is not None:  # it said that it has ended, but does not know of that yet when it is asked
        delay = min(delay, NEWS_INTERVAL.total_seconds())
    run.polls += 1
    run.unanswered_since = None
    command.turn_at = None  # it is handed over
    lease_renew(command)
    changes = {"remote_id": run.remote_id, "polls": run.polls, "unanswered_since": None}
    # Forgotten in a crash of the database server, this is as if the worker had died before it: the same key once more.
    update(StageRun, {"id": run.id}, changes, may_be_lost=True)
    progress = progress_of_run(command, report.progress or 0)
    if command.status == Status.RUNNING and progress > command.progress:
        command_event(command, "progress", lease_owner=command.lease_owner, progress=progress)
    return timezone.now() + timedelta(seconds=delay)


def _take_in(command: Command, run: StageRun, client: StageClient[Any], report: WorkReport) -> None:
    spec = STAGES[Stage(run.stage)]
    intake = take_in(command, spec, client, str(report.file_id))
    with transaction.atomic():
        status, progress = spec.after(command)
        changes = intake.save() | {"progress": progress}
        command_transition(command, status, lease_owner=command.lease_owner, data=intake.event_data, **changes)
        run.remote_id = report.remote_id
        finish_run(run, Outcome.SUCCEEDED, remote_file_id=str(report.file_id))


def _not_done(command: Command, run: StageRun, client: StageClient[Any], report: WorkReport) -> None:
    """The service says that it failed or was stopped. What it left nevertheless is worth keeping."""
    left = take_in_what_is_left(command, STAGES[Stage(run.stage)], client, report)
    with transaction.atomic():
        if left is not None:
            changes = left.save()
            command_event(command, "file", lease_owner=command.lease_owner, data=left.event_data, **changes)
        run_failed(command, run, Failure(f"{run.stage}_{report.state}", report.error))
