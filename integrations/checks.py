from pathlib import PurePosixPath

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from integrations.addresses import AddressError, normalized
from integrations.clients.dialects import DIALECTS, names_of
from integrations.registry import DNS, LEAST_IN_FLIGHT, ROUND_ROBIN, ServiceKind


def check_urls() -> None:
    """Refuse to start with an address that no service can have: it would be none of the instances at every call."""
    for kind in ServiceKind:
        for url in settings.SERVICE_URLS[kind]:
            try:
                normalized(url.removeprefix(DNS))
            except AddressError as error:
                raise ImproperlyConfigured(f"{kind.upper()}_URLS: {url!r}: {error}") from None


def check_dialects() -> None:
    """Refuse to start with a dialect that there is not, or without the folder that one needs."""
    for kind in ServiceKind:
        dialect = settings.SERVICE_DIALECTS[kind]
        client = DIALECTS.get((kind, dialect))
        if client is None:
            names = ", ".join(names_of(kind))
            raise ImproperlyConfigured(f"{kind.upper()}_DIALECT must be one of {names}, not {dialect!r}")
        if client.needs_shared_folder:
            _check_folder(kind)
    if settings.RUNNER_REPEAT_AFTER <= settings.SERVICE_TIMEOUT:
        # Else another worker hands a run over while the first may still be doing so.
        raise ImproperlyConfigured("RUNNER_REPEAT_AFTER must be longer than SERVICE_TIMEOUT")


def check_balancing() -> None:
    """Refuse to start with a way of balancing that there is not, or with a limit that lets no call through."""
    ways = (ROUND_ROBIN, LEAST_IN_FLIGHT)
    if settings.SERVICE_BALANCING not in ways:
        raise ImproperlyConfigured(f"SERVICE_BALANCING must be one of {ways}, not {settings.SERVICE_BALANCING!r}")
    if settings.SERVICE_MAX_IN_FLIGHT < 1:
        raise ImproperlyConfigured("SERVICE_MAX_IN_FLIGHT must be at least 1")


def _check_folder(kind: ServiceKind) -> None:
    for variable, folders in (
        ("SHARED_DIR", settings.SERVICE_SHARED_DIRS),
        ("REMOTE_DIR", settings.SERVICE_REMOTE_DIRS),
    ):
        path = PurePosixPath(folders[kind])
        if not path.is_absolute() or ".." in path.parts:
            dialect = settings.SERVICE_DIALECTS[kind]
            raise ImproperlyConfigured(
                f"{kind.upper()}_{variable} must be an absolute path for the dialect {dialect!r}"
            )
