from typing import Any

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from rest_framework import generics, serializers
from rest_framework.request import Request
from rest_framework.response import Response

from gateway.api.errors import CATALOGUE
from gateway.api.problems import safe_methods_only
from gateway.api.serializers import QuerySerializer


class NoQuery(QuerySerializer):
    """The query of an endpoint that takes none."""


class ApiView(generics.GenericAPIView[Any]):
    """Base of all views: an unknown or malformed query parameter is an error before anything happens."""

    query_serializer_class: type[serializers.Serializer[Any]] = NoQuery
    query: dict[str, Any]

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        query = self.get_query_serializer_class()(data=request.query_params)
        query.is_valid(raise_exception=True)
        self.query = query.validated_data

    def options(self, request: HttpRequest, *args: Any, **kwargs: Any) -> Response:
        """Name the methods, in `Allow`; the schema says the rest."""
        return Response(status=204)

    def get_query_serializer_class(self) -> type[serializers.Serializer[Any]]:
        return self.query_serializer_class

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
