"""Which addresses a service may have. Who registers one must not make the gateway call whatever it can reach (SSRF)."""

import socket
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import urlsplit

from django.conf import settings
from django.utils.translation import gettext as _

MAX_URL = 300


class AddressError(ValueError):
    """Why an address cannot be one of a service; fit to be shown."""


def normalized(base_url: str) -> str:
    """Return a base URL in the form in which they are compared. Raises AddressError."""
    if len(base_url) > MAX_URL or not base_url.isascii() or not base_url.isprintable() or " " in base_url:
        raise AddressError(_("It must be a URL of at most 300 printable ASCII characters."))
    try:
        parts = urlsplit(base_url)
        port = parts.port
    except ValueError:
        raise AddressError(_("It must be a URL.")) from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise AddressError(_("It must begin with http:// or https:// and name a host."))
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment or "\\" in base_url:
        raise AddressError(_("It must not hold a user, a query or a fragment."))
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    place = host if port is None else f"{host}:{port}"
    return f"{parts.scheme}://{place}{parts.path.rstrip('/')}"


def check_reachable_part(base_url: str) -> None:
    """Raise AddressError if the host is, or resolves to, an address that no service may have."""
    host = urlsplit(base_url).hostname or ""
    try:
        found = {info[4][0] for info in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError):
        raise AddressError(_("Its host name cannot be resolved.")) from None
    for address in found:
        if not is_allowed(str(address)):
            raise AddressError(_("Its host has an address that is not allowed."))


def is_allowed(address: str) -> bool:
    """Return whether something that was registered may be called at this address."""
    ip: IPv4Address | IPv6Address = ip_address(address.partition("%")[0])
    ip = getattr(ip, "ipv4_mapped", None) or ip
    if ip.is_loopback:
        return bool(settings.SERVICE_PRIVATE_ADDRESSES)
    if ip.is_link_local or ip.is_multicast or ip.is_unspecified or ip.is_reserved:
        return False
    return bool(settings.SERVICE_PRIVATE_ADDRESSES or ip.is_global)
