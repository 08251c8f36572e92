"""How long what is kept, for the tests of retention."""

from datetime import timedelta

from django.utils import timezone

from commands.models import Command, Kept, RetentionRule
from commands.states import Status
from tests.rows import ended_command

DAY = timedelta(days=1)


def keep(**days):
    """Keep these for so long, of commands that ended in any way, and the rest as long as there are commands."""
    for what in Kept.values:
        RetentionRule.objects.filter(what=what).update(keep_days=days.get(what), done_at=None, done_id=None)


def ended(user, age, status=Status.COMPLETED):
    command = ended_command(user)
    Command.objects.filter(pk=command.pk).update(status=status, finished_at=timezone.now() - age)
    return command
