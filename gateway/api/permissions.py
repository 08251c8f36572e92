from typing import TYPE_CHECKING

from rest_framework.permissions import BasePermission

if TYPE_CHECKING:  # rest_framework.views itself imports this module, by the settings
    from rest_framework.request import Request
    from rest_framework.views import APIView


class DenyAll(BasePermission):
    """The default: a view that forgot to state its permission serves nobody."""

    def has_permission(self, request: "Request", view: "APIView") -> bool:
        return False
