"""Where a request comes from: for the audit record, the list of devices and the limits on failed sign-ins."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address, ip_network
from typing import Any
from uuid import UUID

from django.conf import settings
from django.http import HttpRequest, HttpResponse


@dataclass
class Origin:
    """The client of a request. `credential_id` is that of the session or API key, once it is known."""

    address: str | None = None
    user_agent: str = ""
    credential_id: UUID | None = None


_origin: ContextVar[Origin | None] = ContextVar("origin", default=None)


def origin() -> Origin:
    """Return the origin of the request that is being served; an empty one in a worker or a command line."""
    return _origin.get() or Origin()


def client_address(peer: str | None, forwarded: Iterable[str]) -> str | None:
    """Return the address of the client, None if it is not a valid one.

    Each of the NUM_PROXIES proxies in front of the gateway appends the address that it sees to X-Forwarded-For: so
    many entries from its end can be believed, and what comes before them is the client's own word.
    """
    if settings.NUM_PROXIES:
        entries = [entry.strip() for header in forwarded for entry in header.split(",")]
        peer = entries[-settings.NUM_PROXIES] if len(entries) >= settings.NUM_PROXIES else peer
    return _read_address(peer or "")


@lru_cache(maxsize=4096)
def _read_address(written: str) -> str | None:
    try:
        address = ip_address(_without_port(written))
    except ValueError:
        return None
    # A mapped address is one of version 4; and which of the machine's interfaces it was is of no use to anybody.
    return str(getattr(address, "ipv4_mapped", None) or ip_address(address.packed))


def network_of(address: str | None) -> str | None:
    """Return what stands for one client in limits: of IPv6 the /64, within which anybody changes addresses at will."""
    if address is None:
        return None
    return str(ip_network((address, 64), strict=False)) if ":" in address else address


@contextmanager
def origin_of_scope(scope: Mapping[str, Any]) -> Iterator[Origin]:
    """Let `origin()` be the client of an ASGI scope: for a socket, which no middleware of Django sees."""
    headers = [(name.lower(), value.decode("latin-1")) for name, value in scope.get("headers") or ()]
    peer = (scope.get("client") or (None,))[0]
    forwarded = [value for name, value in headers if name == b"x-forwarded-for"]
    agent = next((value for name, value in headers if name == b"user-agent"), "")
    token = _origin.set(_origin_from(peer, forwarded, agent))
    try:
        yield origin()
    finally:
        _origin.reset(token)


class OriginMiddleware:
    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        forwarded = request.META.get("HTTP_X_FORWARDED_FOR")
        peer, agent = request.META.get("REMOTE_ADDR"), request.META.get("HTTP_USER_AGENT", "")
        token = _origin.set(_origin_from(peer, [forwarded] if forwarded else [], agent))
        try:
            return self.get_response(request)
        finally:
            _origin.reset(token)


def _origin_from(peer: str | None, forwarded: Iterable[str], agent: str) -> Origin:
    if not agent.isprintable():
        agent = "".join(character for character in agent if character.isprintable())
    return Origin(client_address(peer, forwarded), agent[:300])


def _without_port(text: str) -> str:
    """Return the address of `1.2.3.4:567`, `[2001:db8::1]:567` or `[2001:db8::1]`: some proxies write it like this."""
    match = re.fullmatch(r"\[([^\]]*)\](?::\d+)?|([\d.]+):\d+", text)
    return (match[1] or match[2] or "") if match else text
