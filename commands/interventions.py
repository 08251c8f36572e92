"""What somebody else than its user does to a command, for a reason: it is in the audit record, and in its events."""

from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import Http404
from django.utils.translation import gettext as _

from accounts import audit
from accounts.audit import Action
from accounts.models import User
from accounts.powers import powers_of
from commands.dispatch import wake_on_commit
from commands.leases import command_wake
from commands.models import Command
from commands.retries import command_retry
from commands.services import command_cancel
from commands.transitions import command_event


def command_cancel_for(*, command: Command, reason: str, by: User) -> Command:
    """Ask for the end of a command of anybody.

    Raises ApiError (permission_denied, command_not_cancellable).
    """
    with transaction.atomic():
        _record(Action.COMMAND_CANCELLED, "commands.cancel_command", command, reason, by)
        return command_cancel(command=command, reason=reason, by=by)


def command_retry_for(*, command: Command, reason: str, by: User, from_start: bool = False) -> Command:
    """Store a command that repeats one of anybody, for the same user.

    Raises ApiError (permission_denied, command_not_finished, and others of commands.retries).
    """
    with transaction.atomic():
        _record(Action.COMMAND_RETRIED, "commands.retry_command", command, reason, by)
        return command_retry(user=by, command=command, from_start=from_start, reason=reason)


def command_requeue(*, command: Command, reason: str, by: User) -> Command:
    """Let a command be looked at now, whatever it waits for. What a living worker holds stays with that one.

    Raises ApiError (permission_denied), ValidationError if it has ended, Http404 if it was deleted meanwhile.
    """
    with transaction.atomic():
        _record(Action.COMMAND_REQUEUED, "commands.requeue_command", command, reason, by)
        locked = Command.objects.select_for_update(no_key=True).filter(pk=command.pk).first()
        if locked is None:
            raise Http404
        if locked.has_ended:
            raise ValidationError(_("The command has already ended."))
        command_event(locked, "requeued", lease_owner=locked.lease_owner, data={"reason": reason, "by": by.username})
        command_wake(command_id=locked.pk)
        wake_on_commit(locked.work_stage)
    return locked


def _record(action: Action, permission: str, command: Command, reason: str, by: User) -> None:
    powers_of(by).require(permission)
    audit.record(action, actor=by, target=command, reason=reason)
