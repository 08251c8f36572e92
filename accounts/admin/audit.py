from abc import ABC, abstractmethod
from typing import Any, ClassVar, cast
from uuid import UUID

from django.contrib import admin, messages
from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import SEARCH_VAR
from django.core.exceptions import PermissionDenied
from django.db.models import Q, QuerySet, Value
from django.db.models.functions import Lower
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect
from django.urls import URLPattern, path
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts.admin.audit_export import audit_export
from accounts.admin_site import user_of
from accounts.audit import Action, record
from accounts.models import ApiKey, AuditEntry, DeviceSession, Mail, Role, RouteRule, User
from gateway.admin.filters import DaysFilter
from gateway.admin.model_admin import EMPTY, ReadOnlyAdmin, page_link
from gateway.admin.theme import DropdownFilter, TextFilter

# What has a page of its own, by what the record calls it.
_TARGETS: dict[str, type[Any]] = {
    model.__name__.lower(): model for model in (ApiKey, DeviceSession, Mail, Role, RouteRule, User)
}


class ActionFilter(DropdownFilter):
    title = gettext_lazy("action")
    parameter_name = "action_is"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [(action.value, action.label) for action in Action]

    def queryset(self, request: HttpRequest, queryset: QuerySet[AuditEntry]) -> QuerySet[AuditEntry]:
        return queryset.filter(action=self.value()) if self.value() else queryset


class _WhoFilter(TextFilter, ABC):
    """By id, or by the name that it had then."""

    def queryset(self, request: HttpRequest, queryset: QuerySet[AuditEntry]) -> QuerySet[AuditEntry]:
        value = (self.value() or "").strip()
        if not value:
            return queryset
        return queryset.alias(actor_lower=Lower("actor_name"), target_lower=Lower("target_name")).filter(self.of(value))

    @abstractmethod
    def of(self, value: str) -> Q:
        """Return what an entry must match."""


class ActorFilter(_WhoFilter):
    title = gettext_lazy("actor")
    parameter_name = "actor"

    def of(self, value: str) -> Q:
        return _by_actor(value)


class TargetFilter(_WhoFilter):
    title = gettext_lazy("target")
    parameter_name = "target"

    def of(self, value: str) -> Q:
        return _by_target(value)


class AboutFilter(_WhoFilter):
    title = gettext_lazy("actor or target")
    parameter_name = "about"

    def of(self, value: str) -> Q:
        return _by_actor(value) | _by_target(value)


class TypeFilter(DropdownFilter):
    title = gettext_lazy("target type")
    parameter_name = "type"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [(name, model._meta.verbose_name) for name, model in _TARGETS.items()]  # noqa: SLF001 - documented API of models

    def queryset(self, request: HttpRequest, queryset: QuerySet[AuditEntry]) -> QuerySet[AuditEntry]:
        return queryset.filter(target_type=self.value()) if self.value() else queryset


@admin.register(AuditEntry)
class AuditEntryAdmin(ReadOnlyAdmin[AuditEntry]):
    list_display = ("moment", "action", "actor", "target", "address", "reason")
    list_filter = (ActionFilter, ActorFilter, TargetFilter, TypeFilter, AboutFilter, ("at", DaysFilter))
    search_help_text = gettext_lazy("Actor, target, address, reason or id")
    search_fields = ("actor_name", "target_name", "address", "request_id", "reason")
    search_ids = ("pk", "actor_id", "credential_id")
    fields = (
        "moment",
        "action",
        "actor",
        "credential_id",
        "address",
        "request_id",
        "target",
        "what_changed",
        "reason",
        "id",
    )
    readonly_fields: ClassVar = fields

    @admin.display(description=gettext_lazy("at"))
    def moment(self, entry: AuditEntry) -> str:
        return f"{entry.at:%Y-%m-%d %H:%M:%S}"  # to the second, which local formats leave out

    @admin.display(description=gettext_lazy("actor"))
    def actor(self, entry: AuditEntry) -> SafeString | str:
        return page_link(User(pk=entry.actor_id), entry.actor_name) if entry.actor_id else EMPTY

    @admin.display(description=gettext_lazy("target"))
    def target(self, entry: AuditEntry) -> SafeString | str:
        model = _TARGETS.get(entry.target_type)
        name = f"{entry.target_name} ({model._meta.verbose_name})" if model else entry.target_name  # noqa: SLF001 - documented API of models
        return page_link(model(pk=entry.target_id), name) if model else name or EMPTY

    @admin.display(description=gettext_lazy("changes"))
    def what_changed(self, entry: AuditEntry) -> SafeString | str:
        rows = [(field, *(_text(value) for value in values)) for field, values in entry.changes.items()]
        if not rows:
            return EMPTY
        head = format_html("<tr><th></th><th>{}</th><th>{}</th></tr>", _("before"), _("after"))
        body = format_html_join("", "<tr><th>{}</th><td>{}</td><td>{}</td></tr>", rows)
        return format_html('<table class="changes">{}{}</table>', head, body)

    def get_urls(self) -> list[URLPattern]:
        own = path("export/", self.admin_site.admin_view(self.export), name="accounts_auditentry_export")
        return [own, *super().get_urls()]

    def export(self, request: HttpRequest) -> HttpResponseBase:
        """Stream the filtered list as CSV. To export is an act too, and recorded."""
        if not self.may_export(request):
            raise PermissionDenied
        entries = self._filtered(request)
        if entries is None:
            messages.error(request, _("The filter is not valid."))
            return redirect("admin:accounts_auditentry_changelist")
        given = {name: ("", value) for name, value in request.GET.items()}
        record(Action.AUDIT_EXPORTED, actor=user_of(request), changes=given)
        return audit_export(request, entries)

    def _filtered(self, request: HttpRequest) -> QuerySet[AuditEntry] | None:
        if self.is_unreadable(request) or "\0" in request.GET.get(SEARCH_VAR, ""):
            return None
        try:
            return cast("QuerySet[AuditEntry]", self.get_changelist_instance(request).queryset)
        except IncorrectLookupParameters:
            return None

    def may_export(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request) and user_of(request).has_perm("accounts.export_auditentry")

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        more = {"may_export": self.may_export(request), "query": request.GET.urlencode()}
        return super().changelist_view(request, {**(extra_context or {}), **more})


def _by_actor(value: str) -> Q:
    try:
        return Q(actor_id=UUID(value))
    except ValueError:
        return Q(actor_lower=Lower(Value(value)))


def _by_target(value: str) -> Q:
    return Q(target_id=value) | Q(target_lower=Lower(Value(value)))


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(str(each) for each in value) or EMPTY
    return EMPTY if value in (None, "") else str(value)
