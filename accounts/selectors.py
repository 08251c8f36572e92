from collections.abc import Iterable
from uuid import UUID

from django.contrib.auth.models import Permission
from django.db.models import F, Prefetch, Q, QuerySet, Value
from django.db.models.functions import Concat, Lower
from django.http import Http404
from django.utils import timezone

from accounts.models import ApiKey, DeviceSession, Role, User


def user_by_login(login: str) -> User | None:
    """Return who has this user name or e-mail address, in any letter case.

    By the same function as the unique indexes: `iexact` compares capitals, and those of `ı` and `i` are the same.
    """
    name, address = Lower(Value(User.normalize_username(login))), Lower(Value(login))
    return (
        User.objects.alias(name=Lower("username"), address=Lower("email"))
        .filter(Q(name=name) | Q(address=address))
        .first()
    )


def user_list(*, q: str = "", is_active: bool | None = None, role: UUID | None = None) -> QuerySet[User]:
    """Return users with their roles; `q` is a part of the name or address, `role` one that they have themselves."""
    users = User.objects.prefetch_related(Prefetch("groups", Role.objects.order_by("name")))
    if q:
        part = Lower(Value(q))
        users = users.alias(name=Lower("username"), address=Lower("email"))
        users = users.filter(Q(name__contains=part) | Q(address__contains=part))
    if is_active is not None:
        users = users.filter(is_active=is_active)
    if role is not None:
        users = users.filter(groups__role__public_id=role)
    return users


def user_get(user_id: UUID) -> User:
    """Return a user with the roles. Raises Http404."""
    user = user_list().filter(id=user_id).first()
    if user is None:
        raise Http404
    return user


def open_sessions(user: User) -> QuerySet[DeviceSession]:
    """Return the devices on which a user is signed in."""
    return DeviceSession.objects.filter(user=user, ended_at=None, expires_at__gt=timezone.now())


def role_list() -> QuerySet[Role]:
    return Role.objects.select_related("parent")


def role_get(role_id: UUID) -> Role:
    """Return a role by its public id. Raises Http404."""
    role = role_list().filter(public_id=role_id).first()
    if role is None:
        raise Http404
    return role


def roles_with_ids(role_ids: Iterable[UUID]) -> list[Role]:
    """Return the roles with these public ids, without those that there are not."""
    return list(role_list().filter(public_id__in=list(role_ids)))


def permission_list() -> QuerySet[Permission]:
    """Return all permissions with their `full_name` (`app_label.codename`)."""
    return Permission.objects.annotate(
        full_name=Concat(F("content_type__app_label"), Value("."), F("codename"))
    ).order_by("full_name")


def api_key_list(user: User) -> QuerySet[ApiKey]:
    return ApiKey.objects.filter(user=user)


def api_key_get(user: User, api_key_id: UUID) -> ApiKey:
    """Return a key of this user. Raises Http404."""
    key = api_key_list(user).filter(id=api_key_id).first()
    if key is None:
        raise Http404
    return key
