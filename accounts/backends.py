from typing import Any

from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.models import Permission
from django.db.models import QuerySet
from django.http import HttpRequest

from accounts.models import User
from accounts.permissions import user_roles
from accounts.selectors import user_by_login


class LoginBackend(ModelBackend):
    """Signs in by user name or e-mail address, in the API and in the admin; knows that roles inherit."""

    def authenticate(
        self, request: HttpRequest | None, username: str | None = None, password: str | None = None, **_kwargs: Any
    ) -> User | None:
        if username is None or password is None:
            return None
        user = user_by_login(username)
        if user is None:
            User().set_password(password)  # as slow as for a real user, so that time does not tell who exists
            return None
        return user if user.check_password(password) and self.user_can_authenticate(user) else None

    def _get_group_permissions(self, user_obj: User) -> QuerySet[Permission]:
        return Permission.objects.filter(group__in=[role.pk for role in user_roles(user_obj)])
