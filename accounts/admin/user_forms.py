from typing import Any

from django import forms
from django.contrib.auth.models import Permission
from django.forms import ModelMultipleChoiceField
from django.utils.translation import gettext_lazy as _

from accounts.models import Role, User
from accounts.permissions import name_of
from gateway.admin.confirmation import ReasonForm
from gateway.admin.fields import RowField, reason_field
from gateway.admin.theme import (
    AdminPasswordChangeForm,
    AdminUserCreationForm,
    CheckboxSelectMultiple,
    FilteredSelectMultiple,
    Select,
    Switch,
)


class PermissionsField(ModelMultipleChoiceField[Permission]):
    """Permissions, by the names that the API and the documents use."""

    def __init__(self, **kwargs: Any) -> None:
        every = Permission.objects.select_related("content_type").order_by("content_type__app_label", "codename")
        widget = FilteredSelectMultiple(_("permissions"), is_stacked=False)
        super().__init__(**{**kwargs, "queryset": every, "widget": widget})

    def label_from_instance(self, obj: Permission) -> str:
        return f"{name_of(obj)} – {obj.name}"


def roles_field() -> "ModelMultipleChoiceField[Role]":
    return ModelMultipleChoiceField(
        label=_("Roles"), queryset=Role.objects.order_by("name"), required=False, widget=CheckboxSelectMultiple
    )


class UserForm(forms.ModelForm[User]):
    roles = roles_field()
    reason = reason_field()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial["roles"] = [group.pk for group in self.instance.groups.all()]


class NewUserForm(AdminUserCreationForm):
    usable_password = None  # type: ignore[assignment]  # how Django removes a field
    roles = roles_field()
    must_change_password = forms.BooleanField(
        label=_("Must change the password"),
        help_text=_("At the first sign-in, since you know it too."),
        required=False,
        initial=True,
        widget=Switch,
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial.setdefault("roles", list(Role.objects.filter(name=Role.OPERATOR)))

    class Meta:
        model = User
        fields = ("username", "email")


class PasswordForm(AdminPasswordChangeForm):
    must_change_password = forms.BooleanField(
        label=_("Must change the password"),
        help_text=_("At the next sign-in, since you know it too."),
        required=False,
        initial=True,
        widget=Switch,
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields.pop("usable_password", None)
        self.fields["reason"] = reason_field()


class RoleForm(ReasonForm):
    """Which role, and why."""

    role = RowField(label=_("Role"), queryset=Role.objects.order_by("name"), widget=Select)
    field_order = ("role", "reason")
