from collections.abc import Callable
from typing import ClassVar

from django.conf import settings
from django.utils.translation import get_language
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from accounts.api.serializers.registration import RegisterInput, VerifyInput
from accounts.api.serializers.users import UserOutput
from accounts.idempotency import answer_once
from accounts.requests import SignedInRequest
from accounts.services.registration import email_verification_resend, email_verify, registration_prepare, user_register
from gateway.api.idempotency import IDEMPOTENCY_KEY
from gateway.api.permissions import Access
from gateway.api.views import ApiView


class RegisterView(ApiView):
    authentication_classes = ()
    required_permissions: ClassVar = {"POST": Access.PUBLIC}

    @extend_schema(request=RegisterInput, responses={201: UserOutput}, parameters=[IDEMPOTENCY_KEY], auth=[])
    def post(self, request: Request) -> Response:
        """Make an account. A mail to the address tells how to verify it. Registration can be closed."""
        given = {"language": get_language() or settings.LANGUAGE_CODE} | self.read_body(request, RegisterInput)

        def begin() -> Callable[[], Response]:
            user = registration_prepare(**given)
            return lambda: Response(UserOutput(user_register(user=user)).data, 201)

        return answer_once(request, begin)


class EmailVerifyView(ApiView):
    authentication_classes = ()
    required_permissions: ClassVar = {"POST": Access.PUBLIC}

    @extend_schema(request=VerifyInput, responses={204: None}, auth=[])
    def post(self, request: Request) -> Response:
        """Show by the token of a mail that the address is yours. A token works once."""
        email_verify(**self.read_body(request, VerifyInput))
        return Response(status=204)


class EmailResendView(ApiView):
    required_permissions: ClassVar = {"POST": Access.DEVICE_SESSION}
    open_to_obliged = True

    @extend_schema(request=None, responses={202: None})
    def post(self, request: SignedInRequest) -> Response:
        """Ask for another mail with a token; at most one goes out in a minute, and five in an hour."""
        email_verification_resend(user=request.user)
        return Response(status=202)
