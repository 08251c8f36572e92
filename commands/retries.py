"""A command once more."""

from accounts.models import User
from commands.models import Command
from commands.services import command_store
from gateway.api.errors import ApiError, ErrorCode

TAKEN_OVER = ("text", "mode", "chaos_level", "persona", "priority", "parameters", "metadata", "tags", "target")


def command_retry(
    *, user: User, command: Command, from_start: bool = False, idempotency_key: str | None = None, reason: str = ""
) -> Command:
    """Store a new command that repeats one that has ended. It belongs to the same user.

    Raises ApiError (command_not_finished).
    """
    del user, from_start, reason
    if not command.has_ended:
        raise ApiError(ErrorCode.COMMAND_NOT_FINISHED)
    values = {field: getattr(command, field) for field in TAKEN_OVER}
    again = Command(user_id=command.user_id, retry_of=command, idempotency_key=idempotency_key, **values)
    return command_store(again)
