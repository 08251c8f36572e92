"""Every error code that a client can meet, with its HTTP status and title. Shown at /api-docs/errors."""

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from django.utils.translation import gettext_lazy as _
from rest_framework.exceptions import APIException

if TYPE_CHECKING:
    from django_stubs_ext import StrPromise


@dataclass(frozen=True)
class ErrorType:
    status: int
    title: "StrPromise"


class ErrorCode(StrEnum):
    """Stable names: a client may branch on them."""

    VALIDATION_ERROR = "validation_error"
    MALFORMED_BODY = "malformed_body"
    BAD_REQUEST = "bad_request"
    NOT_AUTHENTICATED = "not_authenticated"
    INVALID_CREDENTIALS = "invalid_credentials"
    TOKEN_INVALID = "token_invalid"  # noqa: S105 - a name, not a secret
    TOKEN_EXPIRED = "token_expired"  # noqa: S105 - the same
    TOKEN_REUSED = "token_reused"  # noqa: S105 - the same
    SESSION_ENDED = "session_ended"
    PERMISSION_DENIED = "permission_denied"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    NOT_ACCEPTABLE = "not_acceptable"
    COMMAND_NOT_FINISHED = "command_not_finished"
    COMMAND_NOT_CANCELLABLE = "command_not_cancellable"
    BODY_TOO_LARGE = "body_too_large"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    IDEMPOTENCY_KEY_REUSED = "idempotency_key_reused"
    INTERNAL_ERROR = "internal_error"
    SERVICE_UNAVAILABLE = "service_unavailable"


CATALOGUE: dict[ErrorCode, ErrorType] = {
    ErrorCode.VALIDATION_ERROR: ErrorType(400, _("The request has invalid values.")),
    ErrorCode.MALFORMED_BODY: ErrorType(400, _("The body is not readable JSON.")),
    ErrorCode.BAD_REQUEST: ErrorType(400, _("The request is malformed.")),
    ErrorCode.NOT_AUTHENTICATED: ErrorType(401, _("Sign in first: no access token was given.")),
    ErrorCode.INVALID_CREDENTIALS: ErrorType(401, _("No active account has this login and password.")),
    ErrorCode.TOKEN_INVALID: ErrorType(401, _("The token is not valid.")),
    ErrorCode.TOKEN_EXPIRED: ErrorType(401, _("The token has expired.")),
    ErrorCode.TOKEN_REUSED: ErrorType(
        401, _("This refresh token was used before; its session has been ended for safety.")
    ),
    ErrorCode.SESSION_ENDED: ErrorType(401, _("The session has ended. Sign in again.")),
    ErrorCode.PERMISSION_DENIED: ErrorType(403, _("You do not have permission to do this.")),
    ErrorCode.NOT_FOUND: ErrorType(404, _("There is nothing here, or it is not yours.")),
    ErrorCode.METHOD_NOT_ALLOWED: ErrorType(405, _("This method is not allowed here.")),
    ErrorCode.NOT_ACCEPTABLE: ErrorType(406, _("The answer is not available in the format asked for.")),
    ErrorCode.COMMAND_NOT_FINISHED: ErrorType(409, _("The command has not finished yet.")),
    ErrorCode.COMMAND_NOT_CANCELLABLE: ErrorType(409, _("The command has already ended.")),
    ErrorCode.BODY_TOO_LARGE: ErrorType(413, _("The body is too large.")),
    ErrorCode.UNSUPPORTED_MEDIA_TYPE: ErrorType(415, _("The body must be sent as application/json.")),
    ErrorCode.IDEMPOTENCY_KEY_REUSED: ErrorType(422, _("This Idempotency-Key was used before with another body.")),
    ErrorCode.INTERNAL_ERROR: ErrorType(500, _("Something went wrong here. It has been logged.")),
    ErrorCode.SERVICE_UNAVAILABLE: ErrorType(503, _("The gateway cannot do this at the moment.")),
}


class ApiError(APIException):
    """An error of the catalogue, with a sentence about this occurrence if the title does not say enough."""

    def __init__(self, code: ErrorCode, detail: str | None = None) -> None:
        self.error_code = code
        self.status_code = CATALOGUE[code].status
        super().__init__(detail or str(CATALOGUE[code].title), code)
