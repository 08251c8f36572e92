from typing import Any, ClassVar

from django import forms
from django.contrib import admin
from django.contrib.auth.models import Permission
from django.db.models import Count, QuerySet
from django.forms import ModelMultipleChoiceField
from django.http import HttpRequest
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from accounts.admin.user_forms import PermissionsField
from accounts.admin_site import user_of
from accounts.models import Role, User
from accounts.permissions import name_of, role_permissions
from accounts.services.roles import role_change, role_create, role_delete
from gateway.admin.fields import reason_field
from gateway.admin.model_admin import EMPTY, SavingAdmin, list_link, permission_list
from gateway.admin.theme import BooleanRadioFilter

EDITABLE = ("name", "description", "parent", "permissions", "requires_second_factor")


class RoleForm(forms.ModelForm[Role]):
    permissions: ModelMultipleChoiceField[Permission] = PermissionsField(
        label=_("Permissions"), help_text=_("Besides those that it inherits."), required=False
    )
    reason = reason_field()


@admin.register(Role)
class RoleAdmin(SavingAdmin[Role]):
    form = RoleForm
    list_display = ("name", "says", "parent", "built_in", "requires_second_factor", "users")
    list_filter = (("built_in", BooleanRadioFilter), ("requires_second_factor", BooleanRadioFilter))
    list_select_related = ("parent",)
    search_fields = ("name", "description")
    search_ids = ("public_id",)
    ordering = ("name",)
    fieldsets: ClassVar[Any] = (
        (None, {"fields": ("name", "description", "parent", "requires_second_factor")}),
        (_("permissions"), {"fields": ("permissions", "effective_permissions")}),
        (_("This change"), {"fields": ("reason",)}),
    )
    readonly_fields = ("effective_permissions",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Role]:
        return super().get_queryset(request).annotate(members=Count("user"))

    @admin.display(description=_("description"))
    def says(self, role: Role) -> str:
        return gettext(role.description) if role.description else EMPTY

    @admin.display(description=_("users"), ordering="members")
    def users(self, role: Any) -> SafeString:
        return list_link(User, str(role.members), {"role": role.name})

    @admin.display(description=_("may do, with what it inherits"))
    def effective_permissions(self, role: Role) -> SafeString | str:
        return permission_list(role_permissions(role))

    def get_readonly_fields(self, request: HttpRequest, obj: Role | None = None) -> tuple[str, ...]:
        fixed = ("name", "says", "parent", "permissions") if obj and obj.built_in else ()
        return (*self.readonly_fields, *fixed)

    def get_fieldsets(self, request: HttpRequest, obj: Role | None = None) -> Any:
        """Leave out of a built-in role's page what its code says, and what cannot be done."""
        if obj is not None and not self.has_change_permission(request, obj):
            return ((None, {"fields": ("name", "says", "parent", "requires_second_factor", "effective_permissions")}),)
        if obj is not None and obj.built_in:
            first = (None, {"fields": ("name", "says", "parent", "requires_second_factor")})
            return (first, (_("permissions"), {"fields": ("effective_permissions",)}), self.fieldsets[-1])
        if obj is None:
            return (self.fieldsets[0], (_("permissions"), {"fields": ("permissions",)}))
        return self.fieldsets

    def has_delete_permission(self, request: HttpRequest, obj: Role | None = None) -> bool:
        return super().has_delete_permission(request, obj) and not (obj and obj.built_in)

    def save(self, request: HttpRequest, obj: Role, form: Any, *, change: bool) -> Role:
        actor, given = user_of(request), dict(form.cleaned_data)
        reason = given.pop("reason")
        given["permissions"] = [name_of(permission) for permission in given.get("permissions", ())]
        if not change:
            return role_create(actor=actor, **{name: given[name] for name in EDITABLE})
        readonly = self.get_readonly_fields(request, obj)
        changes = {name: given[name] for name in form.changed_data if name in EDITABLE and name not in readonly}
        role = Role.objects.get(pk=obj.pk)
        return role_change(actor=actor, role=role, changes=changes, reason=reason)

    def delete(self, request: HttpRequest, obj: Role, reason: str) -> None:
        role_delete(actor=user_of(request), role=obj, reason=reason)
