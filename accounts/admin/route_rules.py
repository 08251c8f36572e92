from typing import Any

from django import forms
from django.contrib import admin
from django.contrib.auth.models import Permission
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from accounts.admin_site import user_of
from accounts.models import Role, RouteRule
from accounts.permissions import name_of
from accounts.routes import routes
from accounts.services.roles import route_rule_delete, route_rule_save
from gateway.admin.fields import RowField
from gateway.admin.model_admin import EMPTY, SavingAdmin
from gateway.admin.theme import Select, TextInput
from gateway.api.permissions import Access


def _routes() -> list[tuple[str, Any]]:
    """Return what can be tightened: all but what is open to everybody, since nobody is known there."""
    found = [each for each in routes() if each.required != Access.PUBLIC]
    choices = [(f"{each.method} {each.name}", f"{each.method} {each.path} ({each.required})") for each in found]
    return [("", "---------"), *choices]


def _permissions() -> list[tuple[str, Any]]:
    permissions = Permission.objects.select_related("content_type").order_by("content_type__app_label", "codename")
    return [("", "---------"), *((name_of(each), f"{name_of(each)} – {each.name}") for each in permissions)]


class RouteRuleForm(forms.ModelForm[RouteRule]):
    what = forms.ChoiceField(
        label=_("Route"), help_text=_("With what it asks for already."), choices=_routes, widget=Select
    )
    permission = forms.ChoiceField(
        label=_("Permission"),
        help_text=_("Either this or a role is needed too."),
        choices=_permissions,
        required=False,
        widget=Select,
    )
    role = RowField(
        label=_("Role"), queryset=Role.objects.order_by("name"), required=False, widget=Select, empty_label="---------"
    )
    reason = forms.CharField(
        label=_("Why"), help_text=_("Shown here, and in the audit record."), max_length=200, widget=TextInput
    )

    class Meta:
        model = RouteRule
        fields = ("permission", "role", "reason")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk:
            self.initial["what"] = f"{self.instance.method} {self.instance.route}"

    def _post_clean(self) -> None:
        """Leave the constraints to the service, which knows the route that was chosen."""


@admin.register(RouteRule)
class RouteRuleAdmin(SavingAdmin[RouteRule]):
    """Tightens what the code asks for, at run time, for HTTP and from the next request on."""

    form = RouteRuleForm
    list_display = ("__str__", "needs", "reason", "created_at")
    list_select_related = ("role",)
    list_filter = ("method",)
    search_fields = ("route", "permission", "role__name", "reason")
    search_ids = ()
    ordering = ("route", "method")
    fields = ("what", "permission", "role", "reason")
    delete_warning = _("What it kept people from is open again, as far as the code lets them.")

    @admin.display(description=_("needs"))
    def needs(self, rule: RouteRule) -> str:
        return rule.permission or str(rule.role or EMPTY)

    @admin.display(description=_("route"))
    def what(self, rule: RouteRule) -> str:
        return str(rule)

    def save(self, request: HttpRequest, obj: RouteRule, form: Any, *, change: bool) -> RouteRule:
        given = form.cleaned_data
        method, route = given["what"].split(" ", 1)
        return route_rule_save(
            actor=user_of(request),
            method=method,
            route=route,
            permission=given["permission"],
            role=given["role"],
            reason=given["reason"],
            rule=RouteRule.objects.get(pk=obj.pk) if change else None,
        )

    def delete(self, request: HttpRequest, obj: RouteRule, reason: str) -> None:
        route_rule_delete(actor=user_of(request), rule=obj, reason=reason)
