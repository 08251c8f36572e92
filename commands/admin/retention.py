"""The page of the rules of retention. There is one for everything that can be said: they are changed, and not made."""

from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest

from accounts.admin_site import user_of
from commands.models import RetentionRule
from commands.retention_rules import retention_change
from gateway.admin.fields import reason_field
from gateway.admin.model_admin import SavingAdmin


class RetentionForm(forms.ModelForm[RetentionRule]):
    reason = reason_field()


@admin.register(RetentionRule)
class RetentionRuleAdmin(SavingAdmin[RetentionRule]):
    form = RetentionForm
    list_display = ("what", "status", "keep_days", "done_at", "deleted")
    list_display_links = ("what", "status")
    ordering = ("pk",)
    fields = ("what", "status", "keep_days", "done_at", "deleted", "reason")
    readonly_fields = ("what", "status", "done_at", "deleted")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: RetentionRule | None = None) -> bool:
        return False

    def save(self, request: HttpRequest, obj: RetentionRule, form: Any, *, change: bool) -> RetentionRule:
        given = form.cleaned_data
        return retention_change(actor=user_of(request), rule=obj, keep_days=given["keep_days"], reason=given["reason"])
