from drf_spectacular.extensions import OpenApiAuthenticationExtension
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.request import Request

from accounts.models import User
from accounts.sign_in import SignIn, sign_in_by_token
from gateway.api.errors import ApiError, ErrorCode


class SessionTokenAuthentication(BaseAuthentication):
    """`Authorization: Bearer <access token>` of a session that has not ended."""

    def authenticate(self, request: Request) -> tuple[User, SignIn] | None:
        header = get_authorization_header(request).split()
        if not header:
            return None
        if len(header) != 2 or header[0].lower() != b"bearer":  # noqa: PLR2004 - scheme and token
            raise ApiError(ErrorCode.TOKEN_INVALID)
        sign_in = sign_in_by_token(header[1].decode("latin-1"))
        return sign_in.user, sign_in

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


class SessionTokenScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]  # drf-spectacular has no stubs
    target_class = SessionTokenAuthentication
    name = "accessToken"

    def get_security_definition(self, auto_schema: object) -> dict[str, str]:
        return {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
