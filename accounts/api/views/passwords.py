from typing import ClassVar

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api.serializers.passwords import ChangeInput, ForgotInput, ResetInput
from accounts.requests import SignedInRequest
from accounts.services.passwords import password_change, password_forgot, password_reset
from gateway.api.permissions import Access
from gateway.api.views import ApiView


class PasswordForgotView(ApiView):
    authentication_classes = ()
    required_permissions: ClassVar = {"POST": Access.PUBLIC}

    @extend_schema(request=ForgotInput, responses={202: None}, auth=[])
    def post(self, request: Request) -> Response:
        """Ask for a mail to set a new password with. The answer is the same whether or not a user has the address."""
        password_forgot(**self.read_body(request, ForgotInput))
        return Response(status=202)


class PasswordResetView(ApiView):
    authentication_classes = ()
    required_permissions: ClassVar = {"POST": Access.PUBLIC}

    @extend_schema(request=ResetInput, responses={204: None}, auth=[])
    def post(self, request: Request) -> Response:
        """Set a new password by the token of a mail, which works once. Ends all sessions.

        API keys stay good, unless the address was not verified before: then they are revoked.
        """
        password_reset(**self.read_body(request, ResetInput))
        return Response(status=204)


class PasswordChangeView(ApiView):
    required_permissions: ClassVar = {"POST": Access.DEVICE_SESSION}
    open_to_obliged = True

    @extend_schema(request=ChangeInput, responses={204: None})
    def post(self, request: SignedInRequest) -> Response:
        """Change the password. Ends all other sessions; API keys stay good."""
        given = self.read_body(request, ChangeInput)
        password_change(user=request.user, keep_session=request.auth.credential_id, **given)
        return Response(status=204)
