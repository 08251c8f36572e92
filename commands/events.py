"""News of commands for the rooms above: sent after the commit, at least once, possibly out of order.

Whoever listens orders by `seq` and can read what it missed with commands.selectors.
"""

import logging
from collections.abc import Sequence

from django.db import transaction
from django.dispatch import Signal
from django.utils import timezone

from commands.models import CommandEvent

logger = logging.getLogger(__name__)

command_event_recorded = Signal()
"""Sent with `event`: a CommandEvent. A receiver that raises gets the event again later."""


def event_broadcast_on_commit(event: CommandEvent) -> None:
    # Robust: what goes wrong after the commit must not look like a failure of what was committed.
    transaction.on_commit(lambda: events_broadcast([event]), robust=True)


def events_broadcast(events: Sequence[CommandEvent]) -> None:
    """Hand events to the listeners, and remember which got through everywhere."""
    sent = []
    for event in events:
        outcomes = command_event_recorded.send_robust(sender=CommandEvent, event=event)
        errors = [result for _receiver, result in outcomes if isinstance(result, Exception)]
        if errors:
            logger.warning("event %s of command %s was not broadcast: %r", event.seq, event.command_id, errors[0])
            break  # what is wrong with one is wrong with the next; all come again later
        sent.append(event.pk)
    if sent:
        CommandEvent.objects.filter(pk__in=sent).update(broadcast_at=timezone.now())
