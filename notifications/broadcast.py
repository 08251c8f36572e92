"""Hands news of the rooms below to the sockets, through the channel layer.

A hint that may get lost: what it speaks of is in the database, and a socket that misses a number reads it there.
"""

from typing import Any
from uuid import UUID

from channels.layers import get_channel_layer
from django.conf import settings
from django.dispatch import receiver
from django_redis import get_redis_connection
from rest_framework.serializers import DateTimeField

from accounts.signals import access_changed, session_ended
from commands.api.serializers import EventOutput
from commands.events import command_event_recorded
from commands.models import CommandEvent
from gateway.api.serializers import output_of
from integrations.events import ServiceChanged, service_changed

ALL_SOCKETS = "sockets"
SERVICES = "services"


def command_group(command_id: UUID) -> str:
    return f"command.{command_id.hex}"


def session_group(credential_id: UUID) -> str:
    return f"session.{credential_id.hex}"


def user_group(user_id: UUID) -> str:
    return f"user.{user_id.hex}"


@receiver(command_event_recorded)
def send_command_events(events: list[CommandEvent], **_kwargs: Any) -> None:
    _send(*((command_group(event.command_id), _command_event(event)) for event in events))


def _command_event(event: CommandEvent) -> dict[str, Any]:
    return {"type": "command.event", "payload": output_of(EventOutput, event)}


@receiver(service_changed)
def send_service_changed(event: ServiceChanged, **_kwargs: Any) -> None:
    service = {"id": str(event.service_id), "kind": str(event.kind), "base_url": event.base_url}
    at = DateTimeField().to_representation(event.at)
    payload = {"service": service, "state": str(event.state), "reason": event.reason, "at": at}
    _send((SERVICES, {"type": "service.changed", "payload": payload}))


@receiver(session_ended)
def send_session_ended(credential_id: UUID, **_kwargs: Any) -> None:
    _send((session_group(credential_id), {"type": "session.ended"}))


@receiver(access_changed)
def send_access_changed(user_id: UUID | None, **_kwargs: Any) -> None:
    if user_id is None:
        _send((ALL_SOCKETS, {"type": "access.changed", "of_many": True}))
    else:
        _send((user_group(user_id), {"type": "access.changed", "of_many": False}))


def _send(*messages: tuple[str, dict[str, Any]]) -> None:
    """Send each message to its group, in one round trip.

    By a connection that is kept. The layer itself keeps one per event loop; called from code without a loop, as all of
    ours here, it would open one for each message.
    """
    layer: Any = get_channel_layer()
    prefix = settings.CHANNEL_LAYERS["default"]["CONFIG"]["prefix"]
    pipeline = get_redis_connection("default").pipeline(transaction=False)
    for group, message in messages:
        pipeline.publish(f"{prefix}__group__{group}", layer.serialize(message))  # as its group_send() does
    pipeline.execute()
