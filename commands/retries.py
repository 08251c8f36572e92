"""A command once more: a new one, which goes on after what had succeeded, or begins anew."""

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.models import User
from commands.models import Command, CommandResult, Outcome
from commands.pipeline.stages import progress_before
from commands.services import command_store, hash_of, stored_before
from commands.states import Stage, Status
from gateway.api.errors import ApiError, ErrorCode

TAKEN_OVER = ("text", "mode", "chaos_level", "persona", "priority", "parameters", "metadata", "tags", "target")
STAGES = list(Stage)


def command_retry(
    *, user: User, command: Command, from_start: bool = False, idempotency_key: str | None = None, reason: str = ""
) -> Command:
    """Store a new command that repeats one that has ended, and send a worker to it. It belongs to the same user.

    It has the files of the stages that succeeded, and goes on with the next, unless it is to begin `from_start`.
    `user` is who wants it: of somebody else, the first event tells the name, and the `reason`. With a key that was used
    before, return the command of that time.

    Raises ApiError (command_not_finished, command_not_retryable, idempotency_key_reused, not_found).
    """
    with transaction.atomic():
        # Locked until the new one is stored, so that nobody deletes meanwhile the files that it takes over.
        locked = Command.objects.select_for_update(no_key=True).filter(pk=command.pk).first()
        if locked is None:
            raise ApiError(ErrorCode.NOT_FOUND)
        return _retry(user=user, command=locked, from_start=from_start, idempotency_key=idempotency_key, reason=reason)


def _retry(*, user: User, command: Command, from_start: bool, idempotency_key: str | None, reason: str) -> Command:
    values = {"retry_of": command.id, "from_start": from_start}
    again = Command(
        user_id=command.user_id,
        retry_of=command,
        begins_with=None if from_start else _next_stage(command),
        deadline=command.deadline if command.deadline and command.deadline > timezone.now() else None,
        idempotency_key=idempotency_key,
        idempotency_hash=hash_of(values) if idempotency_key else "",
        **{field: getattr(command, field) for field in TAKEN_OVER},
    )
    earlier = stored_before(again)
    if earlier is not None:
        return earlier
    _check(command, from_start=from_start)
    result = _take_over(again, command)
    by = user.username if user.pk != command.user_id else ""
    data = {name: text for name, text in (("retry_of", str(command.id)), ("reason", reason), ("by", by)) if text}
    return command_store(again, result=result, data=data)


def _check(command: Command, *, from_start: bool) -> None:
    if command.only_stage:
        raise ApiError(ErrorCode.COMMAND_NOT_RETRYABLE, _("It is a step by itself. Send it again."))
    if not command.has_ended:
        raise ApiError(ErrorCode.COMMAND_NOT_FINISHED)
    if command.status == Status.COMPLETED and not from_start:
        raise ApiError(ErrorCode.COMMAND_NOT_RETRYABLE, _('It has completed. Repeat it with "from": "start".'))


def _next_stage(command: Command) -> Stage | None:
    """Return the stage after the last that succeeded, None if that is the first of all."""
    succeeded = set(command.stage_runs.filter(outcome=Outcome.SUCCEEDED).values_list("stage", flat=True))
    if command.begins_with:  # what came before, an earlier command did
        succeeded |= set(STAGES[: STAGES.index(Stage(command.begins_with))])
    if command.alt_file is None or Stage.SEGMENTATION not in succeeded:
        return None
    has_run = command.last_file is not None and Stage.RUNNER in succeeded
    return Stage.ARCHIVE if has_run else Stage.RUNNER


def _take_over(again: Command, command: Command) -> CommandResult | None:
    """Give the new command what the stages before made. Return its result, not yet saved, if they came so far."""
    again.stage = again.begins_with
    again.progress = progress_before(again.begins_with)
    if again.begins_with is None:
        return None
    again.alt_file = command.alt_file
    if again.begins_with != Stage.ARCHIVE:
        return None
    again.last_file = command.last_file
    result = CommandResult.objects.filter(command=command).first()
    if result is not None:
        result.command = again
    return result
