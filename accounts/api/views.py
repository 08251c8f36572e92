from dataclasses import asdict

from drf_spectacular.utils import OpenApiExample, extend_schema
from rest_framework.permissions import AllowAny, IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api.serializers import LoginInput, LoginOutput, RefreshInput, TokenPairOutput, UserOutput
from accounts.requests import SignedInRequest
from accounts.services import session_end, session_refresh, session_start
from gateway.api.views import ApiView


class LoginView(ApiView):
    authentication_classes = ()
    permission_classes = (AllowAny,)

    @extend_schema(
        request=LoginInput,
        responses=LoginOutput,
        auth=[],
        examples=[OpenApiExample("By user name", {"login": "demo", "password": "…"}, request_only=True)],
    )
    def post(self, request: Request) -> Response:
        """Sign in on this device."""
        session, tokens = session_start(**self.read_body(request, LoginInput))
        return Response(LoginOutput({**asdict(tokens), "session_id": session.id, "user": session.user}).data)


class RefreshView(ApiView):
    authentication_classes = ()
    permission_classes = (AllowAny,)

    @extend_schema(request=RefreshInput, responses=TokenPairOutput, auth=[])
    def post(self, request: Request) -> Response:
        """Exchange a refresh token for the next pair; the old one is used up."""
        return Response(TokenPairOutput(session_refresh(**self.read_body(request, RefreshInput))).data)


class LogoutView(ApiView):
    permission_classes = (IsAuthenticated,)

    @extend_schema(request=None, responses={204: None})
    def post(self, request: SignedInRequest) -> Response:
        """End this device's session: both tokens are worth nothing from now on, and its sockets close."""
        session_end(session_id=request.auth.session_id)
        return Response(status=204)


class MeView(ApiView):
    permission_classes = (IsAuthenticated,)

    @extend_schema(responses=UserOutput)
    def get(self, request: SignedInRequest) -> Response:
        """Who the token speaks for."""
        return Response(UserOutput(request.user).data)
