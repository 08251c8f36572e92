"""The pages of limits of commands in flight."""

from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from accounts.admin_site import user_of
from accounts.models import Role, User
from commands.limits import limit_delete, limit_save
from commands.models import CommandLimit
from gateway.admin.fields import RowField, reason_field
from gateway.admin.model_admin import SavingAdmin
from gateway.admin.theme import Select, TextInput


class CommandLimitForm(forms.ModelForm[CommandLimit]):
    # By name: a list of all users to choose from could be very long.
    username = forms.CharField(
        label=_("User"), required=False, widget=TextInput, help_text=_("User name. Without user and role: everybody.")
    )
    role = RowField(
        label=_("Role"), queryset=Role.objects.order_by("name"), required=False, widget=Select, empty_label="---------"
    )
    reason = reason_field()

    class Meta:
        model = CommandLimit
        fields = ("role", "in_flight")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk and self.instance.user is not None:
            self.initial["username"] = self.instance.user.username

    def clean_username(self) -> User | None:
        name = self.cleaned_data["username"]
        user = User.objects.filter(username=name).first() if name else None
        if name and user is None:
            raise ValidationError(_("There is no such user."), code="does_not_exist")
        return user

    def _post_clean(self) -> None:
        """Leave the constraints to the service, which knows the user that was named."""


@admin.register(CommandLimit)
class CommandLimitAdmin(SavingAdmin[CommandLimit]):
    form = CommandLimitForm
    list_display = ("__str__", "in_flight")
    list_select_related = ("user", "role")
    search_fields = ("user__username", "role__name")
    ordering = ("pk",)
    fields = ("username", "role", "in_flight", "reason")
    delete_warning = _("Another limit, or that of the settings, holds then.")

    def save(self, request: HttpRequest, obj: CommandLimit, form: Any, *, change: bool) -> CommandLimit:
        given = form.cleaned_data
        return limit_save(
            actor=user_of(request),
            limit=CommandLimit.objects.get(pk=obj.pk) if change else None,
            user=given["username"],
            role=given["role"],
            in_flight=given["in_flight"],
            reason=given["reason"],
        )

    def delete(self, request: HttpRequest, obj: CommandLimit, reason: str) -> None:
        limit_delete(actor=user_of(request), limit=obj, reason=reason)
