"""A command that is to meet trouble, and how it fails."""

from commands.models import StageRun
from commands.services import command_submit
from commands.states import Status


def submit(alice):
    return command_submit(user=alice, text="echo hello")


def failed(command, stage):
    """Return the failure of a command, checked for what every failure must have."""
    assert command.status == Status.FAILED
    assert command.error_stage == stage
    assert command.finished_at is not None
    assert command.events.last().event == "failed"
    assert command.events.last().data["stage"] == stage
    assert not StageRun.objects.filter(command=command, finished_at=None).exists()
    return command.error_code
