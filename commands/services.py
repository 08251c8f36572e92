import hashlib
import json
from collections.abc import Sequence
from contextlib import nullcontext
from copy import copy
from dataclasses import asdict
from typing import Any
from uuid import UUID

from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.translation import gettext as _
from rest_framework.exceptions import ErrorDetail, ValidationError

from accounts.models import User
from commands.dispatch import wake, wake_on_commit
from commands.leases import NEWS_INTERVAL, command_look_soon, command_wake
from commands.limits import hold_beyond_limit
from commands.models import Command, CommandResult, StageRun
from commands.pipeline.stages import progress_before
from commands.queue import turn_of
from commands.states import Stage, Status
from commands.transitions import StaleCommandError, command_transition, first_event, first_events
from files.models import StoredFile
from gateway.api.errors import ApiError, ErrorCode
from gateway.request_id import request_id
from gateway.rows import commit_unsynced, select, update
from integrations.clients.base import WorkReport, WorkState
from integrations.clients.runner import RunnerClient
from integrations.registry import tag_exists


def command_submit(*, user: User, idempotency_key: str | None = None, **values: Any) -> Command:
    """Store a command and send a worker to it. With a key that was used before, return the command of that time.

    Raises ApiError (idempotency_key_reused) if the key came with another body then, ValidationError for a target that
    no service has and for a deadline that has passed.
    """
    body_hash = hash_of(values) if idempotency_key else ""
    command = Command(user=user, idempotency_key=idempotency_key, idempotency_hash=body_hash, **values)
    try:
        check_now(command)
    except ValidationError:
        earlier = stored_before(command)  # a repeat gets the answer of that time, when all was well
        if earlier is None:
            raise
        return earlier
    return command_store(command)


def check_now(command: Command) -> None:
    """Raise ValidationError for what may have been right a moment ago: the target and the deadline."""
    errors = {}
    if command.target and not tag_exists(command.target):
        errors["target"] = [ErrorDetail(_("No service has this tag."), code="does_not_exist")]
    if command.deadline is not None and command.deadline <= timezone.now():
        errors["deadline"] = [ErrorDetail(_("This time has passed."), code="invalid")]
    if errors:
        raise ValidationError(errors)


def command_store(
    command: Command,
    *,
    file: StoredFile | None = None,
    result: CommandResult | None = None,
    data: dict[str, Any] | None = None,
) -> Command:
    """Save a new command, with a file or result that was made for it, and send a worker to it.

    `data` is what its first event tells.

    Return the command that was stored with its idempotency key before, if there is one. Raises ApiError
    (idempotency_key_reused).
    """
    _make_due(command)
    try:
        with nullcontext() if file is None and result is None else transaction.atomic():
            if file is not None:
                file.save(force_insert=True)
            first_event(command, data=data)
            if result is not None:
                result.save(force_insert=True)
            if not command.held:
                wake_on_commit(command.work_stage)
    except IntegrityError:
        # The unique constraint decides, so that two of the same at once make one command.
        if not User.objects.filter(pk=command.user_id).exists():  # deleted meanwhile
            raise ApiError(ErrorCode.SESSION_ENDED) from None
        earlier = stored_before(command)
        if earlier is None:
            raise
        return earlier
    return command


def commands_store(commands: Sequence[Command]) -> None:
    """Save new commands of a user that have no idempotency keys, and send workers to them."""
    for command in commands:
        _make_due(command)
    with transaction.atomic():
        hold_beyond_limit(*commands)
        first_events(commands)
        for stage in {command.work_stage for command in commands if not command.held}:
            wake_on_commit(stage)


def _make_due(command: Command) -> None:
    command.request_id = request_id.get()
    command.due_at, command.turn_at = timezone.now(), turn_of(command)


def stored_before(command: Command) -> Command | None:
    """Return the command that has the user's idempotency key already. Raises ApiError (idempotency_key_reused)."""
    key = command.idempotency_key
    earlier = Command.objects.filter(user=command.user_id, idempotency_key=key).first() if key is not None else None
    if earlier is not None and earlier.idempotency_hash != command.idempotency_hash:
        raise ApiError(ErrorCode.IDEMPOTENCY_KEY_REUSED)
    return earlier


def as_submitted(command: Command) -> Command:
    """Return the command as it was when it was stored, so that a repeated request gets the same answer."""
    original = copy(command)
    original.status, original.stage = Status.QUEUED, command.begins_with
    original.progress = progress_before(command.begins_with)
    original.started_at = original.finished_at = None
    original.error_code = ""
    if command.begins_with is None:
        original.alt_file = None
    if command.begins_with != Stage.ARCHIVE:
        original.last_file = None
    original.atlas_file = None
    return original


def command_cancel(*, command: Command, reason: str = "", by: User | None = None) -> Command:
    """Ask for the end of a command. Asking again is no error; the first who asks is on record.

    `reason` and `by` are for somebody else than its user. Raises ApiError (command_not_cancellable, not_found).
    """
    data = {name: text for name, text in (("reason", reason), ("by", by.username if by else "")) if text}
    while command.status not in (Status.CANCELLING, Status.CANCELLED):
        if command.has_ended:
            raise ApiError(ErrorCode.COMMAND_NOT_CANCELLABLE)
        try:
            if command.status == Status.QUEUED:  # nothing has been done for it yet
                command_transition(command, Status.CANCELLED, data=data)
            else:
                command_stop(command=command, data=data)
        except StaleCommandError:
            try:
                command.refresh_from_db()
            except Command.DoesNotExist:
                raise ApiError(ErrorCode.NOT_FOUND) from None
    return command


def command_stop(*, command: Command, data: dict[str, Any]) -> None:
    """Let a worker stop what is going on. Raises StaleCommandError."""
    with transaction.atomic():
        command_transition(command, Status.CANCELLING, data=data)
        command_wake(command_id=command.id)
        wake_on_commit(command.work_stage)


def runner_report(*, command_id: UUID, body: Any) -> None:
    """Take what a runner says on its own about a task as a hint to ask it: nothing in it is believed.

    Late, repeated and disordered news change nothing. The first word about the end wakes the command up; until then,
    it is looked at once per NEWS_INTERVAL, however often a runner has news. Raises InvalidAnswerError if this is not
    what a runner says.
    """
    task_id = body.get("id") if isinstance(body, dict) else None
    report = RunnerClient.read_report(body, remote_id=str(task_id))
    run = _run_reported_on(command_id, report)  # first without a lock: most news need no write
    if run is None:
        return
    if report.state is WorkState.WORKING:
        command_look_soon(command_id=command_id)
        wake(Stage.RUNNER, delay=NEWS_INTERVAL.total_seconds())
        return
    _take_down(run, report)


def _take_down(run: StageRun, report: WorkReport) -> None:
    """Write down the word about the end of a try, and wake its command; nothing, if that is no news any more."""
    as_seen = {"id": run.id, "finished_at": None} | ({"reported": None} if run.reported is None else {})
    with transaction.atomic():
        commit_unsynced()  # it is a hint; and a worker that is at the command waits for less
        # The command first, as everywhere: else this and a worker could wait for each other.
        is_there = command_wake(command_id=run.command_id, stage=Stage.RUNNER)
        if is_there and update(StageRun, as_seen, {"reported": asdict(report)}):
            wake_on_commit(Stage.RUNNER)
        else:
            transaction.set_rollback(True)


def _run_reported_on(command_id: UUID, report: WorkReport) -> StageRun | None:
    """Return the try that a report is news for, None if it is none (any more)."""
    runs = select(
        StageRun,
        {"command": command_id, "stage": Stage.RUNNER, "finished_at": None},
        order="attempt",
        related=("command",),
    )
    if not runs or runs[-1].command.stage != Stage.RUNNER:
        return None
    run = runs[-1]
    if run.remote_id and run.remote_id != report.remote_id:
        return None
    if run.reported is not None and run.remote_id in ("", run.reported["remote_id"]):
        return None  # the first word about the end stands, unless it was about another task
    return run


def hash_of(values: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True, default=str).encode()).hexdigest()
