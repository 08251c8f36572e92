"""Which addresses a service may have. Who registers one must not make the gateway call whatever it can reach (SSRF)."""

import os
import re
import socket
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import urlsplit

from django.conf import settings
from django.utils.translation import gettext as _

MAX_URL = 300
RESOLVE_SECONDS = 3.0
DEFAULT_PORTS = {"http": 80, "https": 443}
_NAME = re.compile(r"[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*")
_NUMBER = re.compile(r"(.*\.)?(\d+|0x[0-9a-f]*)")  # what ends like this is an address or nothing (WHATWG)
_PATH = re.compile(r"(/[A-Za-z0-9._~!$&'()*+,=:@-]+)*/?")
# Never those of services: they lead to an IPv4 address that nobody sees here, or to the metadata of a cloud.
_NEVER = [
    ip_network(network)
    for network in (
        *("2002::/16", "2001::/32", "64:ff9b::/96", "64:ff9b:1::/48"),  # 6to4, Teredo, NAT64
        "fec0::/10",  # site-local, which no one may use any more
        *("fd00:ec2::254/128", "100.100.100.200/32", "192.0.0.192/32"),
    )
]
# Threads of their own: the resolver of the system has no time limit. One that hangs holds a thread and no request.
_resolvers: ThreadPoolExecutor


def _start_resolvers() -> None:
    global _resolvers  # noqa: PLW0603 - threads do not come along into a child process
    _resolvers = ThreadPoolExecutor(max_workers=32, thread_name_prefix="resolve")


_start_resolvers()
os.register_at_fork(after_in_child=_start_resolvers)


class AddressError(ValueError):
    """Why an address cannot be one of a service; fit to be shown."""


@lru_cache(maxsize=1024)
def normalized(base_url: str) -> str:
    """Return the one form of a base URL: one instance has one, however it is written. Raises AddressError."""
    if len(base_url) > MAX_URL or not base_url.isascii() or not base_url.isprintable() or " " in base_url:
        raise AddressError(_("It must be a URL of at most 300 printable ASCII characters."))
    try:
        parts = urlsplit(base_url)
        port = parts.port
    except ValueError:
        raise AddressError(_("It must be a URL.")) from None
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname or port == 0:
        raise AddressError(_("It must begin with http:// or https:// and name a host."))
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment or "\\" in base_url:
        raise AddressError(_("It must not hold a user, a query or a fragment."))
    if not _PATH.fullmatch(parts.path) or {".", ".."} & set(parts.path.split("/")):
        raise AddressError(_("Its path must not hold %, ;, //, . or .. as a part."))
    place = _normalized_host(parts.hostname)
    if port is not None and port != DEFAULT_PORTS[parts.scheme]:
        place = f"{place}:{port}"
    return f"{parts.scheme}://{place}{parts.path.rstrip('/')}"


def _normalized_host(host: str) -> str:
    """Return a host in lower case without a dot at its end, an address as Python writes it. Raises AddressError."""
    if ":" in host:
        try:
            ip = IPv6Address(host)
        except ValueError:
            raise AddressError(_("It must be a URL.")) from None
        if ip.scope_id is None:
            return str(ip.ipv4_mapped or f"[{ip}]")
        raise AddressError(_("It must not name a network interface."))
    name = host.lower().removesuffix(".")
    if _NUMBER.fullmatch(name):
        try:
            return str(IPv4Address(socket.inet_aton(name)))  # as the resolver reads it: 127.1, 0x7f.1, 017700000001
        except OSError:
            raise AddressError(_("Its address is not one.")) from None
    if not _NAME.fullmatch(name):
        raise AddressError(_("Its host name may hold letters, digits, - and _ only."))
    return name


def addresses_of(host: str) -> list[str]:
    """Return all addresses of a host, sorted. Raises OSError if it has none, or nobody says so in RESOLVE_SECONDS."""
    return sorted(set(resolved(host, RESOLVE_SECONDS)))


def resolved(host: str, seconds: float) -> list[str]:
    """Return the addresses of a host, or the one that it is, as the resolver prefers them.

    Raises OSError if it has none, TimeoutError (which is one) if nobody says so in time.
    """
    try:
        return [str(ip_address(host))]
    except ValueError:
        asked = _resolvers.submit(_resolve, host)
    try:
        return asked.result(timeout=seconds)
    finally:
        asked.cancel()  # nobody waits for it any more, should it not have begun


def _resolve(host: str) -> list[str]:
    try:
        return [str(info[4][0]) for info in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)]
    except UnicodeError as error:
        raise OSError(f"{host!r} cannot be a host name") from error


def check_reachable_part(base_url: str) -> None:
    """Raise AddressError if the host is, or resolves to, an address that no service may have.

    `base_url` is a normalized one. Takes RESOLVE_SECONDS at most.
    """
    host = urlsplit(base_url).hostname or ""
    try:
        found = addresses_of(host)
    except OSError:
        raise AddressError(_("Its host name cannot be resolved.")) from None
    if not all(is_allowed(address) for address in found):
        raise AddressError(_("Its host has an address that is not allowed."))


def is_allowed(address: str) -> bool:
    """Return whether something that was registered may be called at this address."""
    ip: IPv4Address | IPv6Address = ip_address(address.partition("%")[0])
    ip = getattr(ip, "ipv4_mapped", None) or ip
    if ip.is_loopback:
        return bool(settings.SERVICE_PRIVATE_ADDRESSES)
    if ip.is_link_local or ip.is_multicast or ip.is_unspecified or ip.is_reserved:
        return False
    if any(ip in network for network in _NEVER):
        return False
    return bool(settings.SERVICE_PRIVATE_ADDRESSES or ip.is_global)
