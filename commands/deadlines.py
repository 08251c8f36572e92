"""Deadlines: what has not started by then fails, what runs past it is stopped.

Nothing of it depends on a worker that reaches the command: the sweep sees to it.
"""

from typing import Any

from django.utils import timezone

from commands.failures import is_retryable
from commands.models import Command
from commands.services import command_stop
from commands.states import Status
from commands.transitions import StaleCommandError, command_transition

CODE = "deadline_passed"


def deadlines_enforce(*, limit: int = 500) -> int:
    """Hold the deadlines that have passed, the oldest first. Return how many commands it was about."""
    passed = Command.objects.filter(deadline__lte=timezone.now(), finished_at=None).exclude(status=Status.CANCELLING)
    held = 0
    for command in passed.order_by("deadline")[:limit]:
        try:
            deadline_enforce(command=command)
        except StaleCommandError:
            continue  # it goes on just now; if it has not ended, the next sweep sees it again
        held += 1
    return held


def deadline_enforce(*, command: Command) -> bool:
    """Hold the deadline of a command, if it has passed. Return whether it had. Raises StaleCommandError."""
    is_over = command.has_ended or command.status == Status.CANCELLING
    if is_over or command.deadline is None or command.deadline > timezone.now():
        return False
    if command.status != Status.QUEUED:
        command_stop(command=command, data={"code": CODE})
        return True
    data: dict[str, Any] = {"code": CODE, "stage": command.stage, "retryable": is_retryable(CODE)}
    command_transition(command, Status.FAILED, data=data, error_code=CODE, error_stage=command.stage or "")
    return True
