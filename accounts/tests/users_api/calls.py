"""Where users are in the API, one who is new, and what was written down."""

from accounts.models import AuditEntry

USERS, ME = "/api/v2/users", "/api/v2/me"
NOBODY = "019330d0-6f1e-7c3a-9d0b-2f5f0c6f0001"
NEW = {"username": "carol", "email": "carol@example.com", "password": "a long new password"}


def path_of(user, tail=""):
    return f"{USERS}/{user.id}{tail}"


def actions():
    return list(AuditEntry.objects.exclude(action="signed_in").order_by("id").values_list("action", flat=True))
