from dataclasses import asdict
from typing import ClassVar

from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api.serializers.auth import LoginInput, LoginOutput, RefreshInput, TokenPairOutput
from accounts.models.sessions import SessionEnd
from accounts.requests import SignedInRequest
from accounts.services.sessions import session_end, session_refresh, session_start
from gateway.api.permissions import Access
from gateway.api.views import ApiView

NO_STORE = {"Cache-Control": "no-store"}  # for an answer that lets whoever reads it in


class LoginView(ApiView):
    authentication_classes = ()
    required_permissions: ClassVar = {"POST": Access.PUBLIC}

    @extend_schema(
        request=LoginInput,
        responses=LoginOutput,
        auth=[],
        examples=[OpenApiExample("By user name", {"login": "demo", "password": "…"}, request_only=True)],
    )
    def post(self, request: Request) -> Response:
        """Sign in on this device.

        Who has a second factor sends a `code` too; without one the answer is `second_factor_required` once the password
        is right. After several failures in a row the answer is `too_many_attempts`, for some seconds.
        """
        session, tokens = session_start(**self.read_body(request, LoginInput))
        answer = LoginOutput({**asdict(tokens), "session_id": session.id, "user": session.user})
        return Response(answer.data, headers=NO_STORE)


class RefreshView(ApiView):
    authentication_classes = ()
    required_permissions: ClassVar = {"POST": Access.PUBLIC}

    @extend_schema(request=RefreshInput, responses=TokenPairOutput, auth=[])
    def post(self, request: Request) -> Response:
        """Exchange a refresh token for the next pair; the old one is used up."""
        tokens = session_refresh(**self.read_body(request, RefreshInput))
        return Response(TokenPairOutput(tokens).data, headers=NO_STORE)


class LogoutView(ApiView):
    required_permissions: ClassVar = {"POST": Access.DEVICE_SESSION}
    open_to_obliged = True

    @extend_schema(request=None, responses={204: None})
    def post(self, request: SignedInRequest) -> Response:
        """End this device's session: both tokens are worth nothing from now on, and its sockets close."""
        session_end(session_id=request.auth.credential_id, actor=request.user, reason=SessionEnd.LOGOUT)
        return Response(status=204)
