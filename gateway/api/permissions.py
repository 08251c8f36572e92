"""Who may use a route: each view names, for each of its methods, a permission or an Access."""

from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

from rest_framework.permissions import BasePermission

from gateway.api.errors import ApiError, ErrorCode

if TYPE_CHECKING:  # rest_framework.views itself imports this module, by the settings
    from rest_framework.request import Request
    from rest_framework.views import APIView


class Access(StrEnum):
    """What a route asks for instead of a permission, if it is about nothing but oneself."""

    PUBLIC = "public"
    SIGNED_IN = "signed in"
    DEVICE_SESSION = "signed in on a device"  # with a password once, not with an API key


class Credential(Protocol):
    """What this needs to know of a sign-in (`request.auth`)."""

    @property
    def is_api_key(self) -> bool: ...
    @property
    def denied_routes(self) -> Mapping[str, str]: ...
    @property
    def obligations(self) -> tuple[ErrorCode, ...]: ...
    def allows(self, permission: str) -> bool: ...


class DenyAll(BasePermission):
    """The default: a view that forgot to state its permission serves nobody."""

    def has_permission(self, request: "Request", view: "APIView") -> bool:
        return False


class RoutePermission(BasePermission):
    """Holds `required_permissions` of the view, rules made at run time, and what a user is obliged to do first.

    Raises ApiError; a method that is implemented and not named serves nobody.
    """

    def has_permission(self, request: "Request", view: "APIView") -> bool:
        method = "GET" if request.method == "HEAD" else str(request.method)
        auth: Any = request.auth
        match = request._request.resolver_match  # noqa: SLF001 - DRF passes it on only as `parser_context`
        return may_use(view, method, auth, route=match.view_name if match else "")


def may_use(view: Any, method: str, credential: Credential | None, *, route: str) -> bool:
    """Return whether a view (or its class) lets somebody through; `route` is the name of its URL pattern.

    Raises ApiError if there is more to say than no.
    """
    required = required_permission(view, method)
    if required == Access.PUBLIC:
        return True
    if credential is None or required is None:
        return False  # DRF tells a stranger (401) from somebody who may not (403)
    if credential.obligations and not getattr(view, "open_to_obliged", False):
        raise ApiError(credential.obligations[0])
    if credential.is_api_key and (required == Access.DEVICE_SESSION or getattr(view, "device_session_only", False)):
        raise ApiError(ErrorCode.DEVICE_SESSION_REQUIRED)
    if not isinstance(required, Access) and not credential.allows(required):
        raise ApiError(ErrorCode.PERMISSION_DENIED, permission=required)
    denied = credential.denied_routes.get(f"{method} {route}")
    if denied is not None:
        raise ApiError(ErrorCode.PERMISSION_DENIED, permission=denied)
    return True


def required_permission(view: Any, method: str) -> str | Access | None:
    """Return what a method of a view (or of its class) asks for, None if nobody has said so."""
    stated: Mapping[str, str | Access] = getattr(view, "required_permissions", {})
    if method in stated:
        return stated[method]
    if method == "OPTIONS" or not hasattr(view, method.lower()):  # says nothing but which methods there are
        return Access.PUBLIC if Access.PUBLIC in stated.values() else Access.SIGNED_IN
    return None
