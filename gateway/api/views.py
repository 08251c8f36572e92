from collections.abc import Mapping
from typing import Any, ClassVar

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from rest_framework import generics, serializers
from rest_framework.exceptions import ParseError
from rest_framework.permissions import SAFE_METHODS
from rest_framework.request import Request
from rest_framework.response import Response

from gateway.api.errors import CATALOGUE
from gateway.api.permissions import Access, RoutePermission
from gateway.api.problems import safe_methods_only
from gateway.api.serializers import QuerySerializer


class NoQuery(QuerySerializer):
    """The query of an endpoint that takes none."""


class ApiView(generics.GenericAPIView[Any]):
    """Base of all views: permissions are stated per method, and an unknown query parameter is an error.

    A view names in `required_permissions`, for each of its methods, a permission (`app_label.codename`) or an Access.
    `device_session_only` keeps API keys out, whatever the permission. `open_to_obliged` is for what must be reachable
    for somebody who has to change a password, say, before all else.
    """

    permission_classes = (RoutePermission,)
    required_permissions: ClassVar[Mapping[str, str | Access]] = {}
    device_session_only = False
    open_to_obliged = False
    query_serializer_class: type[serializers.Serializer[Any]] = NoQuery
    query: dict[str, Any]

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        if request.method not in SAFE_METHODS and "HTTP_TRANSFER_ENCODING" in request.META:
            # WSGI knows no body without a length, so it would be taken for an empty one.
            raise ParseError(_("The body must come with its length, in Content-Length."))
        serializer_class = self.get_query_serializer_class()
        if serializer_class is NoQuery and not request.query_params:
            self.query = {}
            return
        query = serializer_class(data=request.query_params)
        query.is_valid(raise_exception=True)
        self.query = query.validated_data

    def options(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Response:
        """Name the methods, in `Allow`; the schema says the rest."""
        return Response(status=204)

    def get_query_serializer_class(self) -> type[serializers.Serializer[Any]]:
        """Return that of the view for reading; what changes something takes no query."""
        return self.query_serializer_class if self.request.method in ("GET", "HEAD") else NoQuery

    def finalize_response(self, request: Request, response: Any, *args: Any, **kwargs: Any) -> Any:
        """Let no cache keep what is one person's, unless it asks again whether that still holds (RFC 9111, 5.2.2)."""
        response = super().finalize_response(request, response, *args, **kwargs)
        if not response.has_header("Cache-Control"):
            response["Cache-Control"] = "private, no-cache"
        return response

    def read_body(self, request: Request, serializer_class: type[serializers.Serializer[Any]]) -> dict[str, Any]:
        """Return the validated body. Raises ValidationError, which names the fields."""
        serializer = serializer_class(data=request.data, context=self.get_serializer_context())
        serializer.is_valid(raise_exception=True)
        validated: dict[str, Any] = serializer.validated_data
        return validated


@safe_methods_only
def error_catalogue(request: HttpRequest) -> HttpResponse:
    """Show what each error code means: where the `type` of a problem points to."""
    return render(request, "gateway_api/errors.html", {"catalogue": CATALOGUE})
