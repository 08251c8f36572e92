"""All that ends a session, and all that takes something from who is signed in."""

from django.contrib.auth.models import Permission

from accounts.models import DeviceSession, Role, RouteRule
from accounts.models.sessions import SessionEnd
from accounts.services.passwords import password_set
from accounts.services.sessions import session_end
from accounts.services.users import user_delete
from gateway.api.errors import ErrorCode


def _other_device(alice, session):
    session_end(session_id=session.id, actor=alice, reason=SessionEnd.REVOKED)


def _password(alice, session):
    password_set(actor=alice, user=alice, password="another long passphrase")


def _deactivate(alice, session):
    alice.is_active = False
    alice.save()


def _delete_session(alice, session):
    DeviceSession.objects.get(id=session.id).delete()


def _save_session(alice, session):
    session.ended_at = session.created_at
    session.save()


def _delete_row(alice, session):
    alice.delete()


def _delete_user(alice, session):
    user_delete(actor=None, user=alice)


ENDINGS = [_other_device, _password, _deactivate, _delete_session, _save_session, _delete_row, _delete_user]


def _requires_second_factor(alice):
    role = Role.objects.get(name=Role.VIEWER)  # that operators inherit from
    role.requires_second_factor = True
    role.save()


def _rule(alice):
    RouteRule.objects.create(method="GET", route="commands", permission="accounts.view_user", reason="x")


def _must_change_password(alice):
    alice.must_change_password = True
    alice.save()


def _no_roles(alice):
    alice.groups.clear()


def _no_such_member(alice):
    Role.objects.get(name=Role.OPERATOR).user_set.remove(alice)


def _role_without_permissions(alice):
    Role.objects.get(name=Role.VIEWER).permissions.clear()  # that operators inherit from


def _role_without_parent(alice):
    role = Role.objects.get(name=Role.OPERATOR)
    role.parent = None
    role.save()


def _no_such_permission(alice):
    Permission.objects.get(codename="read_own_command").delete()


CHANGES = [
    (_no_roles, ErrorCode.PERMISSION_DENIED),
    (_no_such_member, ErrorCode.PERMISSION_DENIED),
    (_role_without_permissions, ErrorCode.PERMISSION_DENIED),
    (_role_without_parent, ErrorCode.PERMISSION_DENIED),
    (_no_such_permission, ErrorCode.PERMISSION_DENIED),
    (_rule, ErrorCode.PERMISSION_DENIED),
    (_must_change_password, ErrorCode.PASSWORD_CHANGE_REQUIRED),
    (_requires_second_factor, ErrorCode.SECOND_FACTOR_SETUP_REQUIRED),
]
