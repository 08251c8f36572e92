from typing import Any, ClassVar

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from rest_framework.exceptions import ErrorDetail, ValidationError

from accounts.admin_site import user_of
from gateway.admin.confirmation import confirm
from gateway.admin.fields import reason_field
from gateway.admin.model_admin import EMPTY, Labelled, ReadOnlyInline, SavingAdmin, label, shown_once
from gateway.admin.overview import Figure, figures
from gateway.admin.theme import BooleanRadioFilter, ChoicesDropdownFilter, TextInput
from integrations.alarms import admin as _alarms  # noqa: F401 - a room has one place where Django finds its pages
from integrations.clients.breaker import BreakerState, states_of
from integrations.models import ServiceCheck, ServiceInstance, ServiceState, Source
from integrations.selectors import latencies
from integrations.services import (
    CHANGEABLE,
    Described,
    breaker_reset,
    checked_base_url,
    checked_dialect,
    instance_change,
    instance_delete,
    instance_forget,
    instance_register,
)

STATE_COLOURS: dict[str, str] = {
    ServiceState.HEALTHY: "success",
    ServiceState.UNHEALTHY: "danger",
    ServiceState.DRAINING: "warning",
    ServiceState.DISABLED: "",
    ServiceState.LEFT: "",
}
BREAKERS = {
    BreakerState.CLOSED: _("closed: it is called"),
    BreakerState.OPEN: _("open: calls failed several times, and it is left alone for a while"),
    BreakerState.HALF_OPEN: _("half open: one call finds out whether it is well again"),
}
MAX_TAGS, MAX_TAG = 20, 50


@figures
def _figures() -> Any:
    ill = ServiceInstance.objects.filter(is_disabled=False, is_healthy=False)  # one that has left is neither
    filters = {"is_healthy__exact": "0", "is_disabled__exact": "0"}
    yield Figure(_("service instances that are ill"), ill, filters, alarming=True)


class InstanceForm(forms.ModelForm[ServiceInstance]):
    tags = forms.CharField(
        label=_("Tags"), help_text=_("With commas between."), required=False, max_length=1000, widget=TextInput
    )
    reason = reason_field()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial["tags"] = ", ".join(self.instance.tags)

    def clean_tags(self) -> list[str]:
        tags = [tag.strip() for tag in self.cleaned_data["tags"].split(",") if tag.strip()]
        if len(tags) > MAX_TAGS or any(len(tag) > MAX_TAG for tag in tags):
            raise forms.ValidationError(_("At most 20 tags of 50 characters each."))
        return tags

    def validate_unique(self) -> None:
        """Leave it to the service: one that has left comes back, and the URL has not got its one form yet."""

    def validate_constraints(self) -> None:
        """The same; the fields say what else the constraints do."""


class ChecksInline(ReadOnlyInline[ServiceCheck]):
    model = ServiceCheck
    fields = ("at", "ok", "latency_ms", "reason")
    readonly_fields: ClassVar = fields
    ordering = ("-pk",)
    per_page = 20
    tab = True


@admin.register(ServiceInstance)
class ServiceInstanceAdmin(SavingAdmin[ServiceInstance]):
    form = InstanceForm
    inlines = (ChecksInline,)
    list_display = ("base_url", "kind", "how", "health_since", "why", "weight", "tag_list", "source")
    list_filter = (
        ("kind", ChoicesDropdownFilter),
        ("is_healthy", BooleanRadioFilter),
        ("is_draining", BooleanRadioFilter),
        ("is_disabled", BooleanRadioFilter),
        ("source", ChoicesDropdownFilter),
    )
    search_fields = ("base_url", "version")
    ordering = ("kind", "base_url")
    actions = ("drain", "take_work", "disable", "enable", "reset_breakers")
    delete_warning = _(
        "It gets no more work, and is asked after what it has. If it has left already, it is forgotten for good,"
        " also that it was disabled."
    )
    _where = ("kind", "base_url", "dialect")
    _told = ("weight", "tags", "version", "time_to_live", "is_draining", "is_disabled", "reason")
    _found = (
        "how",
        "breaker",
        "health_since",
        "why",
        "latency",
        "checked_at",
        "heartbeat_at",
        "left_at",
        "source",
        "registered_by",
        "id",
    )

    def get_fields(self, request: HttpRequest, obj: ServiceInstance | None = None) -> Any:
        return (*self._where, *self._told, *self._found) if obj else (*self._where, *self._told[:4], "reason")

    def get_readonly_fields(self, request: HttpRequest, obj: ServiceInstance | None = None) -> Any:
        return (*self._where, *self._found) if obj else ()

    @label(_("state"), STATE_COLOURS)
    def how(self, row: ServiceInstance) -> Labelled:
        return Labelled(row.state, row.state.label)

    @admin.display(description=_("why"))
    def why(self, row: ServiceInstance) -> str:
        return row.reason or EMPTY

    @admin.display(description=_("breaker"))
    @shown_once
    def breaker(self, row: ServiceInstance) -> str:
        return str(BREAKERS[states_of([row.base_url])[row.base_url]])

    @admin.display(description=_("latency of checks, lately"))
    @shown_once
    def latency(self, row: ServiceInstance) -> str:
        found = latencies([row])[row.id]
        if found.p50_ms is None:
            return EMPTY
        return gettext("half within %(p50)s ms, 95 %% within %(p95)s ms") % {"p50": found.p50_ms, "p95": found.p95_ms}

    @admin.display(description=_("tags"))
    def tag_list(self, row: ServiceInstance) -> str:
        return ", ".join(row.tags) or EMPTY

    @admin.action(description=_("Drain…"), permissions=["change"])
    def drain(self, request: HttpRequest, queryset: QuerySet[ServiceInstance]) -> HttpResponse | None:
        return self._change(request, queryset, {"is_draining": True}, _("Give these instances no new work?"))

    @admin.action(description=_("Give work again…"), permissions=["change"])
    def take_work(self, request: HttpRequest, queryset: QuerySet[ServiceInstance]) -> HttpResponse | None:
        return self._change(request, queryset, {"is_draining": False}, _("Give these instances work again?"))

    @admin.action(description=_("Disable…"), permissions=["change"])
    def disable(self, request: HttpRequest, queryset: QuerySet[ServiceInstance]) -> HttpResponse | None:
        return self._change(request, queryset, {"is_disabled": True}, _("Disable these instances?"))

    @admin.action(description=_("Enable…"), permissions=["change"])
    def enable(self, request: HttpRequest, queryset: QuerySet[ServiceInstance]) -> HttpResponse | None:
        return self._change(request, queryset, {"is_disabled": False}, _("Enable these instances?"))

    @admin.action(description=_("Reset breakers…"), permissions=["change"])
    def reset_breakers(self, request: HttpRequest, queryset: QuerySet[ServiceInstance]) -> HttpResponse | None:
        def act(row: ServiceInstance, given: dict[str, Any]) -> None:
            breaker_reset(actor=user_of(request), instance=row, reason=given["reason"])

        return confirm(self, request, queryset, title=_("Call these instances again at once?"), act=act)

    def _change(
        self, request: HttpRequest, rows: QuerySet[ServiceInstance], changes: dict[str, Any], title: Any
    ) -> HttpResponse | None:
        def act(row: ServiceInstance, given: dict[str, Any]) -> None:
            instance_change(actor=user_of(request), instance=row, changes=changes, reason=given["reason"])

        return confirm(self, request, rows, title=title, act=act)

    def save(self, request: HttpRequest, obj: ServiceInstance, form: Any, *, change: bool) -> ServiceInstance:
        actor, given = user_of(request), form.cleaned_data
        if change:
            changes = {name: given[name] for name in form.changed_data if name in CHANGEABLE}
            return instance_change(actor=actor, instance=obj, changes=changes, reason=given["reason"])
        dialect, url = checked_dialect(given["kind"], given["dialect"]), checked_base_url(given["base_url"])
        told = {name: given[name] for name in ("weight", "tags", "version", "time_to_live")}
        described = Described(dialect=dialect, **told)
        row, is_new = instance_register(
            actor=actor,
            kind=given["kind"],
            base_url=url,
            described=described,
            source=Source.ADMIN,
            reason=given["reason"],
        )
        if not is_new:
            raise ValidationError({"base_url": [ErrorDetail(str(_("There is such an instance already.")), "unique")]})
        return row

    def delete(self, request: HttpRequest, obj: ServiceInstance, reason: str) -> None:
        delete = instance_delete if obj.left_at is None else instance_forget
        delete(actor=user_of(request), instance=obj, reason=reason)
