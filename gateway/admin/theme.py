"""What is used of django-unfold, which has no types: for the type checker it is what it is derived from."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, TypeVar

    from django.contrib.admin import AdminSite, ModelAdmin, TabularInline
    from django.contrib.admin import BooleanFieldListFilter as BooleanRadioFilter
    from django.contrib.admin import ChoicesFieldListFilter as ChoicesDropdownFilter
    from django.contrib.admin import FieldListFilter as RangeDateFilter
    from django.contrib.admin import SimpleListFilter as DropdownFilter
    from django.contrib.admin import SimpleListFilter as RadioFilter
    from django.contrib.admin import SimpleListFilter as TextFilter
    from django.contrib.admin.forms import AdminAuthenticationForm as AuthenticationForm
    from django.contrib.admin.forms import AdminPasswordChangeForm as OwnPasswordChangeForm
    from django.contrib.admin.widgets import FilteredSelectMultiple
    from django.contrib.auth import forms as auth_forms
    from django.forms import BaseInlineFormSet as InlineFormSet
    from django.forms import CheckboxInput as Switch
    from django.forms import CheckboxSelectMultiple, PasswordInput, Select, Textarea, TextInput
    from django_stubs_ext import StrOrPromise

    AdminPasswordChangeForm = auth_forms.AdminPasswordChangeForm[Any]
    AdminUserCreationForm = auth_forms.AdminUserCreationForm[Any]
    UserChangeForm = auth_forms.UserChangeForm[Any]
    F = TypeVar("F", bound=Callable[..., Any])

    def action(
        *, description: StrOrPromise, permissions: Sequence[str], url_path: str, icon: str
    ) -> Callable[[F], F]: ...
else:
    from django.contrib.admin.widgets import FilteredSelectMultiple
    from unfold.admin import ModelAdmin, TabularInline
    from unfold.contrib.filters.admin import (
        BooleanRadioFilter,
        ChoicesDropdownFilter,
        DropdownFilter,
        RadioFilter,
        RangeDateFilter,
        TextFilter,
    )
    from unfold.decorators import action
    from unfold.forms import AdminOwnPasswordChangeForm as OwnPasswordChangeForm
    from unfold.forms import AdminPasswordChangeForm, AuthenticationForm, UserChangeForm
    from unfold.forms import PaginationInlineFormSet as InlineFormSet
    from unfold.forms import UserCreationForm as AdminUserCreationForm
    from unfold.sites import UnfoldAdminSite as AdminSite
    from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget as CheckboxSelectMultiple
    from unfold.widgets import UnfoldAdminPasswordWidget as PasswordInput
    from unfold.widgets import UnfoldAdminSelectWidget as Select
    from unfold.widgets import UnfoldAdminTextareaWidget as Textarea
    from unfold.widgets import UnfoldAdminTextInputWidget as TextInput
    from unfold.widgets import UnfoldBooleanSwitchWidget as Switch

__all__ = [
    "AdminPasswordChangeForm",
    "AdminSite",
    "AdminUserCreationForm",
    "AuthenticationForm",
    "BooleanRadioFilter",
    "CheckboxSelectMultiple",
    "ChoicesDropdownFilter",
    "DropdownFilter",
    "FilteredSelectMultiple",
    "InlineFormSet",
    "ModelAdmin",
    "OwnPasswordChangeForm",
    "PasswordInput",
    "RadioFilter",
    "RangeDateFilter",
    "Select",
    "Switch",
    "TabularInline",
    "TextFilter",
    "TextInput",
    "Textarea",
    "UserChangeForm",
    "action",
]
