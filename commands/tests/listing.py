"""Commands as they are listed, for the tests of the list."""

from django.utils import timezone

from commands.models import Command
from commands.states import TERMINAL, Status

COMMANDS = "/api/v2/commands"


def command(user, text="echo Merhaba", *, status=Status.COMPLETED, **values):
    now = timezone.now()
    ended = status in TERMINAL
    times = {"finished_at": now} if ended else {"due_at": now}
    return Command.objects.create(user=user, text=text, status=status, **times, **values)


def listed(client, **query):
    answer = client.get(COMMANDS, query)
    assert answer.status_code == 200, answer.content
    return [row["text"] for row in answer.json()["results"]]
