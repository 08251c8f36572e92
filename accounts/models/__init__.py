from accounts.models.api_keys import ApiKey
from accounts.models.audit import AuditEntry
from accounts.models.failed_sign_ins import FailedSignIns
from accounts.models.idempotency import IdempotentAnswer
from accounts.models.mail import Mail
from accounts.models.roles import Role, RouteRule
from accounts.models.sessions import DeviceSession
from accounts.models.users import User

__all__ = [
    "ApiKey",
    "AuditEntry",
    "DeviceSession",
    "FailedSignIns",
    "IdempotentAnswer",
    "Mail",
    "Role",
    "RouteRule",
    "User",
]
