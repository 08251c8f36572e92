from collections.abc import Awaitable, Callable, Iterable
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.http.request import split_domain_port, validate_host

from notifications.consumers import GatewayConsumer

_gateway_socket = GatewayConsumer.as_asgi()


def socket_application() -> Callable[[Any, Any, Any], Awaitable[None]]:
    return _open_or_refuse


async def _open_or_refuse(scope: Any, receive: Any, send: Any) -> None:
    """Open the socket at `/ws`; refuse any other address, and pages of foreign sites, in the handshake."""
    if scope["path"] == "/ws" and _is_allowed_origin(scope["headers"]):
        await _gateway_socket(scope, receive, send)
    else:
        await send({"type": "websocket.close"})


def _is_allowed_origin(headers: Iterable[tuple[bytes, bytes]]) -> bool:
    """Say whether a page that may use this gateway asks, or a client that is no browser and so sends no Origin.

    Not Channels' OriginValidator: it lets an Origin that is no URL raise, and asks Redis in order to refuse.
    """
    origin = dict(headers).get(b"origin")
    if origin is None:
        return True
    try:
        host, _port = split_domain_port(urlsplit(origin.decode("latin-1")).netloc)
    except ValueError:
        return False
    return bool(host) and validate_host(host, settings.ALLOWED_HOSTS)
