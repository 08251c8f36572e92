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
    SECOND_FACTOR_REQUIRED = "second_factor_required"
    SECOND_FACTOR_INVALID = "second_factor_invalid"
    PERMISSION_DENIED = "permission_denied"
    DEVICE_SESSION_REQUIRED = "device_session_required"
    PASSWORD_CHANGE_REQUIRED = "password_change_required"  # noqa: S105 - a name, not a secret
    EMAIL_NOT_VERIFIED = "email_not_verified"
    SECOND_FACTOR_SETUP_REQUIRED = "second_factor_setup_required"
    REGISTRATION_CLOSED = "registration_closed"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    NOT_ACCEPTABLE = "not_acceptable"
    LAST_ADMINISTRATOR = "last_administrator"
    BUILT_IN_ROLE = "built_in_role"
    ROLE_IN_USE = "role_in_use"
    SECOND_FACTOR_EXISTS = "second_factor_exists"
    TOO_MANY_API_KEYS = "too_many_api_keys"
    SERVICE_EXISTS = "service_exists"
    SERVICE_OF_SETTINGS = "service_of_settings"
    TOO_MANY_SERVICES = "too_many_services"
    ALARM_IS_OVER = "alarm_is_over"
    COMMAND_NOT_FINISHED = "command_not_finished"
    COMMAND_NOT_CANCELLABLE = "command_not_cancellable"
    COMMAND_NOT_RETRYABLE = "command_not_retryable"
    BODY_TOO_LARGE = "body_too_large"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    IDEMPOTENCY_KEY_REUSED = "idempotency_key_reused"
    PRECONDITION_FAILED = "precondition_failed"
    TOO_MANY_ATTEMPTS = "too_many_attempts"
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
    ErrorCode.SECOND_FACTOR_REQUIRED: ErrorType(401, _("A code of the second factor is needed too.")),
    ErrorCode.SECOND_FACTOR_INVALID: ErrorType(401, _("The code of the second factor is wrong or was used before.")),
    ErrorCode.PERMISSION_DENIED: ErrorType(403, _("You do not have permission to do this.")),
    ErrorCode.DEVICE_SESSION_REQUIRED: ErrorType(403, _("An API key cannot do this. Sign in with a password.")),
    ErrorCode.PASSWORD_CHANGE_REQUIRED: ErrorType(403, _("Change your password first.")),
    ErrorCode.EMAIL_NOT_VERIFIED: ErrorType(403, _("Verify your e-mail address first.")),
    ErrorCode.SECOND_FACTOR_SETUP_REQUIRED: ErrorType(403, _("Your role requires a second factor. Set one up first.")),
    ErrorCode.REGISTRATION_CLOSED: ErrorType(403, _("Registration is closed. Ask an administrator for an account.")),
    ErrorCode.NOT_FOUND: ErrorType(404, _("There is nothing here, or it is not yours.")),
    ErrorCode.METHOD_NOT_ALLOWED: ErrorType(405, _("This method is not allowed here.")),
    ErrorCode.NOT_ACCEPTABLE: ErrorType(406, _("The answer is not available in the format asked for.")),
    ErrorCode.LAST_ADMINISTRATOR: ErrorType(409, _("Nobody would be left who can administer users.")),
    ErrorCode.BUILT_IN_ROLE: ErrorType(409, _("A built-in role cannot be changed or deleted.")),
    ErrorCode.ROLE_IN_USE: ErrorType(409, _("Other roles inherit from this role.")),
    ErrorCode.SECOND_FACTOR_EXISTS: ErrorType(409, _("There is a second factor already. Remove it first.")),
    ErrorCode.TOO_MANY_API_KEYS: ErrorType(409, _("You have too many API keys. Revoke one that is not needed.")),
    ErrorCode.SERVICE_EXISTS: ErrorType(409, _("Another user has registered this instance.")),
    ErrorCode.SERVICE_OF_SETTINGS: ErrorType(409, _("The settings name this instance. Disable it instead.")),
    ErrorCode.TOO_MANY_SERVICES: ErrorType(409, _("You have too many instances. Deregister some that are not needed.")),
    ErrorCode.ALARM_IS_OVER: ErrorType(409, _("The alarm is over.")),
    ErrorCode.COMMAND_NOT_FINISHED: ErrorType(409, _("The command has not finished yet.")),
    ErrorCode.COMMAND_NOT_CANCELLABLE: ErrorType(409, _("The command has already ended.")),
    ErrorCode.COMMAND_NOT_RETRYABLE: ErrorType(409, _("There is nothing left to be done of the command.")),
    ErrorCode.BODY_TOO_LARGE: ErrorType(413, _("The body is too large.")),
    ErrorCode.UNSUPPORTED_MEDIA_TYPE: ErrorType(415, _("The body must be sent as application/json.")),
    ErrorCode.IDEMPOTENCY_KEY_REUSED: ErrorType(422, _("This Idempotency-Key was used before with another body.")),
    ErrorCode.PRECONDITION_FAILED: ErrorType(412, _("It was changed meanwhile. Read it again.")),
    ErrorCode.TOO_MANY_ATTEMPTS: ErrorType(429, _("Too many attempts. Wait, then try again.")),
    ErrorCode.INTERNAL_ERROR: ErrorType(500, _("Something went wrong here. It has been logged.")),
    ErrorCode.SERVICE_UNAVAILABLE: ErrorType(503, _("The gateway cannot do this at the moment.")),
}


class ApiError(APIException):
    """An error of the catalogue, with a sentence about this occurrence if the title does not say enough.

    `permission` is what was lacking; `retry_after` says in how many seconds it may be worth another try.
    """

    def __init__(
        self, code: ErrorCode, detail: str | None = None, *, permission: str = "", retry_after: int | None = None
    ) -> None:
        self.error_code = code
        self.status_code = CATALOGUE[code].status
        self.permission = permission
        self.retry_after = retry_after
        super().__init__(detail or str(CATALOGUE[code].title), code)
