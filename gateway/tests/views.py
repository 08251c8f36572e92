"""A URL conf with views that fail, for the tests of how failures are told."""

from typing import Any, ClassVar, NoReturn

from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.http import HttpRequest
from django.urls import include, path
from rest_framework import exceptions
from rest_framework.request import Request
from rest_framework.response import Response

from gateway.api.errors import ApiError, ErrorCode
from gateway.api.permissions import Access
from gateway.api.serializers import JSONObjectField, StrictIntegerField, StrictSerializer
from gateway.api.views import ApiView

handler400 = "gateway.api.problems.bad_request"
handler403 = "gateway.api.problems.permission_denied"
handler404 = "gateway.api.problems.page_not_found"
handler500 = "gateway.api.problems.server_error"

FAILURES: dict[str, Exception] = {
    "unexpected": ZeroDivisionError("the password is hunter2"),
    "denied": PermissionDenied("internal words"),
    "suspicious": SuspiciousOperation("internal words"),
    "unavailable": ApiError(ErrorCode.SERVICE_UNAVAILABLE),
}


class Inner(StrictSerializer):
    number = StrictIntegerField()


class Body(StrictSerializer):
    inner = Inner(required=False)
    several = Inner(many=True, required=False)
    anything = JSONObjectField(max_bytes=100, required=False)

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if not attrs:
            raise exceptions.ValidationError("Say something.")
        return attrs


class Fails(ApiView):
    required_permissions: ClassVar = {"GET": Access.PUBLIC, "POST": Access.PUBLIC}

    def get(self, request: Request, name: str) -> NoReturn:
        raise FAILURES[name]


class Echo(ApiView):
    required_permissions: ClassVar = {"GET": Access.PUBLIC, "POST": Access.PUBLIC}

    def post(self, request: Request) -> Response:
        return Response(self.read_body(request, Body))


class ForgotItsPermission(ApiView):
    def get(self, request: Request) -> Response:
        return Response("secret")


def fails_outside_drf(request: HttpRequest, name: str) -> NoReturn:
    raise FAILURES[name]


urlpatterns = [
    path("fails/<str:name>", Fails.as_view()),
    path("fails-outside-drf/<str:name>", fails_outside_drf),
    path("echo", Echo.as_view()),
    path("forgot", ForgotItsPermission.as_view()),
    path("", include("gateway.urls")),
]
