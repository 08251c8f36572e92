from collections.abc import Callable, Iterable, Mapping
from typing import Any

from django.contrib.auth.hashers import make_password
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import Http404
from django.utils.translation import gettext as _
from rest_framework import exceptions
from rest_framework.fields import get_error_detail
from rest_framework.serializers import as_serializer_error

from accounts import audit
from accounts.audit import Action
from accounts.models import DeviceSession, Role, User
from accounts.models.mail import MailKind
from accounts.models.sessions import SessionEnd
from accounts.models.users import tidy_address
from accounts.powers import Powers, changing_access, powers_of
from accounts.selectors import user_by_login
from accounts.services.mail import mail_send
from accounts.services.names import taken_names_refused
from accounts.services.passwords import password_set
from accounts.services.profile import email_changed
from accounts.services.sessions import sessions_end
from gateway.api.errors import ApiError, ErrorCode

# What `user_change` can change; the last two only for superusers.
CHANGEABLE = (
    *("username", "email", "first_name", "last_name", "language", "is_active", "must_change_password"),
    *("is_staff", "is_superuser"),
)


def user_prepare(*, username: str, email: str, password: str, must_change_password: bool = False) -> User:
    """Return a user for `user_create`, not stored yet: what takes long is done here, outside a transaction.

    Raises ValidationError, which names the fields.
    """
    user = User(username=username, email=email, must_change_password=must_change_password)
    _tidy(user)
    _validate(user, password)
    user.password = make_password(password)
    return user


def user_create(*, actor: User | None, user: User, roles: Iterable[Role] | None = None) -> User:
    """Store a user with these roles; None stands for the role that new users have. A token goes to the address.

    Raises ValidationError if somebody has the name or the address; ApiError: permission_denied.
    """
    with changing_access():
        given = list(Role.objects.filter(name=Role.OPERATOR)) if roles is None else _existing(roles)
        powers = powers_of(actor)
        if roles is not None and given:
            powers.require("accounts.assign_role")
        powers.require_roles(given)
        with taken_names_refused(username=user.username, email=user.email):
            user.save(force_insert=True)
        user.groups.set(given)
        changes: dict[str, Any] = {"roles": ([], sorted(role.name for role in given))}
        audit.record(Action.USER_CREATED, actor=actor, target=user, changes=changes)
        mail_send(MailKind.VERIFY_EMAIL, user=user)
    return user


def user_change(
    *,
    actor: User | None,
    user: User,
    changes: Mapping[str, Any],
    reason: str = "",
    precondition: Callable[[], None] | None = None,
) -> User:
    """Change what CHANGEABLE names; a new address counts as unverified, and deactivation ends all sessions.

    `precondition` is called when nobody else can change the user any more, and may raise. Raises ValidationError,
    Http404 if the user is gone, ApiError: permission_denied, last_administrator.
    """
    with changing_access():
        user = _locked(user, precondition)
        powers = powers_of(actor)
        powers.require_over(user)
        before = {field: getattr(user, field) for field in CHANGEABLE}
        for field, value in changes.items():
            setattr(user, field, value)
        _tidy(user)
        changed = audit.changes_between(before, {field: getattr(user, field) for field in changes})
        if not changed:
            return user
        _require_allowed(powers, actor, user, changed)
        _validate(user, only=changed)
        if "email" in changed:
            email_changed(user=user, old=before["email"])
        with taken_names_refused(
            **{field: getattr(user, field) for field in ("username", "email") if field in changed}
        ):
            user.save(update_fields=[*changed, "email_verified_at"])
        audit.record(Action.USER_CHANGED, actor=actor, target=user, changes=changed, reason=reason)
        if changed.get("is_active") == (True, False):
            _sessions_end(actor, user, reason)
    return user


def user_delete(
    *, actor: User | None, user: User, reason: str = "", precondition: Callable[[], None] | None = None
) -> None:
    """Delete a user and all that is theirs. Raises Http404, ApiError: permission_denied, last_administrator."""
    with changing_access():
        user = _locked(user, precondition)
        powers = powers_of(actor)
        powers.require_over(user)
        _require_other(powers, actor, user, _("You cannot delete yourself."))
        audit.record(Action.USER_DELETED, actor=actor, target=user, changes={"email": (user.email, "")}, reason=reason)
        # All at once: each open session that is deleted by itself would be told of by itself.
        _sessions_end(actor, user, reason)
        user.delete()


def user_roles_set(
    *,
    actor: User | None,
    user: User,
    roles: Iterable[Role],
    reason: str = "",
    precondition: Callable[[], None] | None = None,
) -> User:
    """Give the user these roles and no others. Raises Http404, ApiError: permission_denied, last_administrator."""
    with changing_access():
        user = _locked(user, precondition)
        powers = powers_of(actor)
        powers.require_over(user)
        _require_other(powers, actor, user, _("You cannot change your own roles."))
        before = {group.pk: group.name for group in user.groups.all()}
        after = {role.pk: role for role in _existing(roles)}
        powers.require_roles(role for role_id, role in after.items() if role_id not in before)
        if before.keys() != after.keys():
            user.groups.set(after)
            changes = {"roles": (sorted(before.values()), sorted(role.name for role in after.values()))}
            audit.record(Action.USER_ROLES_CHANGED, actor=actor, target=user, changes=changes, reason=reason)
    return user


def user_sessions_end(*, actor: User | None, user: User, reason: str = "") -> int:
    """Sign a user out everywhere. Return how many sessions that were. Raises ApiError: permission_denied."""
    with transaction.atomic():
        powers_of(actor).require_over(user)
        return _sessions_end(actor, user, reason)


def user_ensure(*, username: str, email: str, password: str, reset: bool, superuser: bool) -> bool:
    """Create the user if there is none of that name; else set the password if `reset`. Return whether it is new."""
    user = user_by_login(username)
    if user is None:
        create = User.objects.create_superuser if superuser else User.objects.create_user
        with transaction.atomic():
            audit.record(Action.USER_CREATED, actor=None, target=create(username, email, password))
        return True
    if reset and not user.check_password(password):
        password_set(actor=None, user=user, password=password)
    return False


def _locked(user: User, precondition: Callable[[], None] | None) -> User:
    found = User.objects.select_for_update(no_key=True).filter(pk=user.pk).first()
    if found is None:
        raise Http404
    if precondition:
        precondition()
    return found


def _tidy(user: User) -> None:
    """Bring name and address into the one form in which they are compared."""
    user.username = User.normalize_username(user.username)
    user.email = tidy_address(user.email)


def _existing(roles: Iterable[Role]) -> list[Role]:
    """Return the roles as they are now. Raises ValidationError if one was deleted meanwhile."""
    wanted = {role.pk for role in roles}
    found = list(Role.objects.filter(pk__in=wanted))
    if len(found) < len(wanted):
        gone = exceptions.ErrorDetail(_("There is no such role."), "does_not_exist")
        raise exceptions.ValidationError({"roles": [gone]})
    return found


def _validate(user: User, password: str | None = None, *, only: Iterable[str] | None = None) -> None:
    """Raise ValidationError for all fields, or `only` some, and the password if there is one."""
    fields = {field.name for field in User._meta.fields}  # noqa: SLF001 - Django's documented API of models
    errors: dict[str, Any] = {}
    try:
        user.clean_fields(exclude={"password"} if only is None else fields - set(only))
    except ValidationError as error:
        errors.update(as_serializer_error(error))
    if password is not None:
        try:
            validate_password(password, user)
        except ValidationError as error:
            errors["password"] = get_error_detail(error)
    if errors:
        raise exceptions.ValidationError(errors)


def _require_allowed(powers: Powers, actor: User | None, user: User, changed: Mapping[str, Any]) -> None:
    if {"username", "email"} & changed.keys() and actor is not None and actor.pk == user.pk:
        sentence = _("Change your own name or address in your profile, which asks for your password.")
        raise ApiError(ErrorCode.PERMISSION_DENIED, sentence)
    if {"is_staff", "is_superuser"} & changed.keys() and not powers.is_unlimited:
        raise ApiError(ErrorCode.PERMISSION_DENIED, _("Only a superuser can do this."))
    if changed.get("is_active") == (True, False):
        _require_other(powers, actor, user, _("You cannot deactivate yourself."))


def _require_other(powers: Powers, actor: User | None, user: User, sentence: str) -> None:
    """Raise ApiError (permission_denied) if it is about oneself; a superuser has nothing to gain and may."""
    if actor is not None and actor.pk == user.pk and not powers.is_unlimited:
        raise ApiError(ErrorCode.PERMISSION_DENIED, sentence)


def _sessions_end(actor: User | None, user: User, reason: str) -> int:
    own = DeviceSession.objects.filter(user=user)
    return sessions_end(sessions=own, actor=actor, reason=SessionEnd.ADMINISTRATOR, why=reason)
