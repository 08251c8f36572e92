from dataclasses import asdict
from typing import ClassVar

from drf_spectacular.utils import extend_schema
from rest_framework.response import Response

from accounts.api.serializers.second_factor import (
    CodeInput,
    EnrolmentOutput,
    PasswordInput,
    ProofInput,
    RecoveryCodesOutput,
    SecondFactorOutput,
)
from accounts.api.views.auth import NO_STORE
from accounts.requests import SignedInRequest
from accounts.second_factor import recovery_codes_left, state_of
from accounts.services.second_factor import (
    recovery_codes_make,
    second_factor_begin,
    second_factor_confirm,
    second_factor_remove,
)
from gateway.api.permissions import Access
from gateway.api.views import ApiView


class SecondFactorView(ApiView):
    required_permissions: ClassVar = {
        "GET": Access.DEVICE_SESSION,
        "POST": Access.DEVICE_SESSION,
        "DELETE": Access.DEVICE_SESSION,
    }
    open_to_obliged = True

    @extend_schema(responses=SecondFactorOutput)
    def get(self, request: SignedInRequest) -> Response:
        """Whether your sign-ins need a code, and how many recovery codes you have left."""
        user = request.user
        return Response(
            SecondFactorOutput({"state": state_of(user), "recovery_codes_left": recovery_codes_left(user)}).data
        )

    @extend_schema(request=PasswordInput, responses=EnrolmentOutput)
    def post(self, request: SignedInRequest) -> Response:
        """Get a secret for an authenticator app. It counts once you confirm it with a code, within 15 minutes."""
        enrolment = second_factor_begin(user=request.user, **self.read_body(request, PasswordInput))
        return Response(EnrolmentOutput(asdict(enrolment)).data, headers=NO_STORE)

    @extend_schema(request=ProofInput, responses={204: None})
    def delete(self, request: SignedInRequest) -> Response:
        """Remove the second factor and its recovery codes. The body holds your `password` and a `code`."""
        second_factor_remove(user=request.user, **self.read_body(request, ProofInput))
        return Response(status=204)


class SecondFactorConfirmView(ApiView):
    required_permissions: ClassVar = {"POST": Access.DEVICE_SESSION}
    open_to_obliged = True

    @extend_schema(request=CodeInput, responses=RecoveryCodesOutput)
    def post(self, request: SignedInRequest) -> Response:
        """Confirm the secret with a code of your app. From now on, signing in needs one.

        The answer holds recovery codes for the day when the app is lost. They are shown this once.
        """
        codes = second_factor_confirm(user=request.user, **self.read_body(request, CodeInput))
        return Response(RecoveryCodesOutput({"recovery_codes": codes}).data, headers=NO_STORE)


class RecoveryCodesView(ApiView):
    required_permissions: ClassVar = {"POST": Access.DEVICE_SESSION}
    open_to_obliged = True

    @extend_schema(request=ProofInput, responses=RecoveryCodesOutput)
    def post(self, request: SignedInRequest) -> Response:
        """Get new recovery codes. They replace the old ones, and are shown this once."""
        codes = recovery_codes_make(user=request.user, **self.read_body(request, ProofInput))
        return Response(RecoveryCodesOutput({"recovery_codes": codes}).data, headers=NO_STORE)
