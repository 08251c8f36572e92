"""Makes a change of access felt at once: by the next request, and by sockets that are open.

Model signals see every door (API, admin, shell); who writes by `QuerySet.update()` calls the functions here.
"""

import logging
from collections.abc import Iterable
from typing import Any
from uuid import UUID

from django.contrib.auth.models import Group, Permission
from django.db import DatabaseError, transaction
from django.db.models.signals import m2m_changed, post_delete, post_save
from django.dispatch import receiver
from django.utils import timezone
from django_otp.plugins.otp_totp.models import TOTPDevice

from accounts import audit, sign_in_cache
from accounts.models import ApiKey, DeviceSession, Role, RouteRule, User
from accounts.models.sessions import SessionEnd
from accounts.signals import access_changed, session_ended

logger = logging.getLogger(__name__)


def credentials_ended(credential_ids: Iterable[UUID]) -> None:
    """Say, after the commit, that these sessions or API keys are worth nothing any more."""
    ids = list(credential_ids)
    sign_in_cache.hold(ids)

    def tell() -> None:
        sign_in_cache.forget(ids)
        for credential_id in ids:
            session_ended.send_robust(sender=DeviceSession, credential_id=credential_id)

    transaction.on_commit(tell, robust=True)


def user_access_changed(user_id: UUID) -> None:
    """Say, after the commit, that a user may do something else than before."""
    sign_in_cache.hold(_credentials_of(user_id))

    def tell() -> None:
        try:
            sign_in_cache.forget(_credentials_of(user_id))  # again: a session that began meanwhile counts too
        except DatabaseError:
            logger.exception("the sessions of a user could not be read")
            sign_in_cache.forget_everybody()
        access_changed.send_robust(sender=User, user_id=user_id)

    transaction.on_commit(tell, robust=True)


def _credentials_of(user_id: UUID) -> list[UUID]:
    now = timezone.now()
    sessions = DeviceSession.objects.filter(user_id=user_id, ended_at=None, expires_at__gt=now)
    keys = ApiKey.objects.filter(user_id=user_id, revoked_at=None, expires_at__gt=now)
    return [*sessions.values_list("id", flat=True), *keys.values_list("id", flat=True)]


def access_of_many_changed() -> None:
    """Say, after the commit, that a role or a rule has changed: anybody may be concerned."""
    sign_in_cache.hold_everybody()

    def tell() -> None:
        sign_in_cache.forget_everybody()
        access_changed.send_robust(sender=Role, user_id=None)

    transaction.on_commit(tell, robust=True)


@receiver(post_save, sender=User)
def _user_saved(instance: User, created: bool, update_fields: Any, **_kwargs: Any) -> None:  # noqa: FBT001 - Django's way to call it
    signs_in = update_fields is not None and set(update_fields) == {"last_login"}
    if created or signs_in:
        return
    is_stored = update_fields is None or "password" in update_fields
    if is_stored and getattr(instance, "_password", None) is not None:  # set_password() keeps it until save() ends
        _password_set_behind_the_services(instance)
    user_access_changed(instance.pk)


def _password_set_behind_the_services(user: User) -> None:
    """End the sessions that the old password opened: `manage.py changepassword` and the like know nothing of them."""
    sessions = DeviceSession.objects.filter(user=user, ended_at=None)
    ids = list(sessions.values_list("id", flat=True))
    sessions.update(ended_at=timezone.now(), end_reason=SessionEnd.PASSWORD)
    audit.record(audit.Action.PASSWORD_CHANGED, actor=None, target=user)
    credentials_ended(ids)


@receiver([post_save, post_delete], sender=TOTPDevice)
def _second_factor_changed(instance: TOTPDevice, **_kwargs: Any) -> None:
    user_access_changed(instance.user_id)


@receiver(post_save, sender=DeviceSession)
def _session_saved(instance: DeviceSession, **_kwargs: Any) -> None:
    if not instance.is_open():
        credentials_ended([instance.pk])


@receiver(post_delete, sender=DeviceSession)
def _session_deleted(instance: DeviceSession, **_kwargs: Any) -> None:
    if instance.is_open():
        credentials_ended([instance.pk])


@receiver(post_save, sender=ApiKey)
def _api_key_saved(instance: ApiKey, created: bool, **_kwargs: Any) -> None:  # noqa: FBT001 - Django's way to call it
    if not instance.is_good():
        credentials_ended([instance.pk])
    elif not created:
        user_access_changed(instance.user_id)


@receiver(post_delete, sender=ApiKey)
def _api_key_deleted(instance: ApiKey, **_kwargs: Any) -> None:
    if instance.is_good():
        credentials_ended([instance.pk])


@receiver(m2m_changed, sender=User.groups.through)
@receiver(m2m_changed, sender=User.user_permissions.through)
def _user_granted(action: str, instance: User | Group, **_kwargs: Any) -> None:
    if action.startswith("post_"):
        if isinstance(instance, User):
            user_access_changed(instance.pk)
        else:
            access_of_many_changed()


@receiver(m2m_changed, sender=Group.permissions.through)
def _role_granted(action: str, **_kwargs: Any) -> None:
    if action.startswith("post_"):
        access_of_many_changed()


@receiver([post_save, post_delete], sender=Role)
@receiver([post_save, post_delete], sender=Group)
@receiver([post_save, post_delete], sender=RouteRule)
@receiver(post_delete, sender=Permission)
def _role_or_rule_changed(**_kwargs: Any) -> None:
    access_of_many_changed()
