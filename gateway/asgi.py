"""Websockets, and HTTP too where one port is to serve both: `uvicorn gateway.asgi:application`."""

import os
from typing import Any

from channels.routing import ProtocolTypeRouter
from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway.settings.production")

http: Any = get_asgi_application()  # sets Django up, which the imports below need

from gateway.api.body_limit import BodyLimit  # noqa: E402 - after the set-up
from notifications.routing import socket_application  # noqa: E402 - the same

application = ProtocolTypeRouter({"http": BodyLimit(http), "websocket": socket_application()})
