"""What can be done to many users at once, and to one from their page. Each asks for confirmation and a reason."""

from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext_lazy as _

from accounts.admin.user_forms import RoleForm
from accounts.admin_site import user_of
from accounts.models import Role, User
from accounts.powers import powers_of
from accounts.services.failed_sign_ins import user_unlock
from accounts.services.second_factor import second_factor_reset
from accounts.services.users import user_change, user_roles_set, user_sessions_end
from gateway.admin.confirmation import ReasonForm, confirm, confirm_here
from gateway.admin.model_admin import SavingAdmin
from gateway.admin.theme import action

Act = Callable[[User, dict[str, Any]], object]


class UserActs(SavingAdmin[User]):
    actions = (
        "deactivate",
        "activate",
        "assign_role",
        "remove_role",
        "end_sessions",
        "unlock",
        "force_password_change",
    )
    actions_detail = ("end_sessions_here", "unlock_here", "reset_second_factor")

    def has_assign_role_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return user_of(request).has_perm("accounts.assign_role")

    def has_end_session_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return user_of(request).has_perm("accounts.end_session")

    def has_unlock_user_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return user_of(request).has_perm("accounts.unlock_user")

    @admin.action(description=_("Deactivate…"), permissions=["change"])
    def deactivate(self, request: HttpRequest, queryset: QuerySet[User]) -> HttpResponse | None:
        return self._change(request, queryset, {"is_active": False}, _("Deactivate these users?"))

    @admin.action(description=_("Activate…"), permissions=["change"])
    def activate(self, request: HttpRequest, queryset: QuerySet[User]) -> HttpResponse | None:
        return self._change(request, queryset, {"is_active": True}, _("Activate these users?"))

    @admin.action(description=_("Force a password change…"), permissions=["change"])
    def force_password_change(self, request: HttpRequest, queryset: QuerySet[User]) -> HttpResponse | None:
        title = _("Must these users change their passwords before anything else?")
        return self._change(request, queryset, {"must_change_password": True}, title)

    @admin.action(description=_("Assign a role…"), permissions=["assign_role"])
    def assign_role(self, request: HttpRequest, queryset: QuerySet[User]) -> HttpResponse | None:
        def act(user: User, given: dict[str, Any]) -> None:
            roles = {*Role.objects.filter(user=user), given["role"]}
            user_roles_set(actor=user_of(request), user=user, roles=roles, reason=given["reason"])

        return self._confirm(request, queryset, _("Assign a role to these users?"), act, RoleForm)

    @admin.action(description=_("Remove a role…"), permissions=["assign_role"])
    def remove_role(self, request: HttpRequest, queryset: QuerySet[User]) -> HttpResponse | None:
        def act(user: User, given: dict[str, Any]) -> None:
            roles = Role.objects.filter(user=user).exclude(pk=given["role"].pk)
            user_roles_set(actor=user_of(request), user=user, roles=roles, reason=given["reason"])

        return self._confirm(request, queryset, _("Take a role away from these users?"), act, RoleForm)

    @admin.action(description=_("End sessions…"), permissions=["end_session"])
    def end_sessions(self, request: HttpRequest, queryset: QuerySet[User]) -> HttpResponse | None:
        return self._confirm(request, queryset, *self._ending_sessions(request))

    @admin.action(description=_("Unlock…"), permissions=["unlock_user"])
    def unlock(self, request: HttpRequest, queryset: QuerySet[User]) -> HttpResponse | None:
        return self._confirm(request, queryset, *self._unlocking(request))

    @action(description=_("End sessions"), permissions=["end_session"], url_path="end-sessions", icon="logout")
    def end_sessions_here(self, request: HttpRequest, object_id: str) -> HttpResponse:
        title, act = self._ending_sessions(request)
        return confirm_here(self, request, object_id, title=title, act=act)

    @action(description=_("Unlock"), permissions=["unlock_user"], url_path="unlock", icon="lock_open")
    def unlock_here(self, request: HttpRequest, object_id: str) -> HttpResponse:
        title, act = self._unlocking(request)
        return confirm_here(self, request, object_id, title=title, act=act)

    @action(
        description=_("Reset the second factor"),
        permissions=["change"],
        url_path="reset-second-factor",
        icon="phonelink_erase",
    )
    def reset_second_factor(self, request: HttpRequest, object_id: str) -> HttpResponse:
        def act(user: User, given: dict[str, Any]) -> None:
            second_factor_reset(actor=user_of(request), user=user, reason=given["reason"])

        title = _("Remove the second factor of this user, who has lost it? Make sure that it is really them who asks.")
        return confirm_here(self, request, object_id, title=title, act=act)

    def _ending_sessions(self, request: HttpRequest) -> tuple[Any, Act]:
        def act(user: User, given: dict[str, Any]) -> None:
            user_sessions_end(actor=user_of(request), user=user, reason=given["reason"])

        return _("Sign these users out everywhere?"), act

    def _unlocking(self, request: HttpRequest) -> tuple[Any, Act]:
        def act(user: User, given: dict[str, Any]) -> None:
            powers_of(user_of(request)).require("accounts.unlock_user")
            user_unlock(actor=user_of(request), user=user, reason=given["reason"])

        return _("Forget the failed sign-ins of these users, and end the blocks that came of them?"), act

    def _change(
        self, request: HttpRequest, users: QuerySet[User], changes: dict[str, Any], title: Any
    ) -> HttpResponse | None:
        def act(user: User, given: dict[str, Any]) -> None:
            user_change(actor=user_of(request), user=user, changes=changes, reason=given["reason"])

        return self._confirm(request, users, title, act)

    def _confirm(
        self,
        request: HttpRequest,
        users: QuerySet[User],
        title: Any,
        act: Act,
        form_class: type[forms.Form] = ReasonForm,
    ) -> HttpResponse | None:
        return confirm(self, request, users, title=title, act=act, form_class=form_class)
