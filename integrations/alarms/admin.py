"""The pages of rules and alarms."""

from datetime import timedelta
from typing import Any, ClassVar

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from accounts.admin_site import user_of
from gateway.admin.confirmation import ReasonForm, confirm
from gateway.admin.fields import reason_field
from gateway.admin.filters import CreationDaysFilter
from gateway.admin.model_admin import (
    EMPTY,
    Labelled,
    ReadOnlyAdmin,
    ReadOnlyInline,
    SavingAdmin,
    label,
    page_link,
    page_url,
)
from gateway.admin.overview import Figure, figures
from gateway.admin.theme import BooleanRadioFilter, ChoicesDropdownFilter, Select, action
from integrations.alarms.models import Alarm, AlarmEvent, AlarmRule, AlarmState, Severity
from integrations.alarms.services import (
    CHANGEABLE,
    alarm_acknowledge,
    alarm_silence,
    alarm_silence_end,
    rule_change,
    rule_create,
    rule_delete,
)

SEVERITY_COLOURS: dict[str, str] = {Severity.INFO: "info", Severity.WARNING: "warning", Severity.CRITICAL: "danger"}
STATE_COLOURS: dict[str, str] = {AlarmState.PENDING: "warning", AlarmState.FIRING: "danger", AlarmState.RESOLVED: ""}
HOURS = {1: _("one hour"), 4: _("4 hours"), 24: _("one day"), 72: _("3 days"), 168: _("7 days")}


@figures
def _figures() -> Any:
    firing = Alarm.objects.filter(state=AlarmState.FIRING)
    yield Figure(_("alarms firing"), firing, {"state__exact": AlarmState.FIRING}, alarming=True)


class RuleForm(forms.ModelForm[AlarmRule]):
    reason = reason_field()


@admin.register(AlarmRule)
class AlarmRuleAdmin(SavingAdmin[AlarmRule]):
    form = RuleForm
    list_display = ("__str__", "kind", "threshold", "shown_severity", "wait", "resolve_wait", "is_enabled")
    list_filter = (
        ("condition", ChoicesDropdownFilter),
        ("severity", ChoicesDropdownFilter),
        ("is_enabled", BooleanRadioFilter),
    )
    search_fields = ("name",)
    ordering = ("condition", "pk")
    fields = ("condition", *CHANGEABLE, "reason")
    delete_warning = _("Its alarms end. What it told is kept.")

    def get_readonly_fields(self, request: HttpRequest, obj: AlarmRule | None = None) -> Any:
        return ("condition",) if obj else ()

    @label(_("severity"), SEVERITY_COLOURS)
    def shown_severity(self, rule: AlarmRule) -> Labelled:
        return Labelled(rule.severity, rule.get_severity_display())

    def save(self, request: HttpRequest, obj: AlarmRule, form: Any, *, change: bool) -> AlarmRule:
        actor, given = user_of(request), form.cleaned_data
        if change:
            changes = {name: given[name] for name in form.changed_data if name in CHANGEABLE}
            return rule_change(actor=actor, rule=obj, changes=changes, reason=given["reason"])
        values = {name: given[name] for name in ("condition", *CHANGEABLE)}
        return rule_create(actor=actor, values=values, reason=given["reason"])

    def delete(self, request: HttpRequest, obj: AlarmRule, reason: str) -> None:
        rule_delete(actor=user_of(request), rule=obj, reason=reason)


class SilenceForm(ReasonForm):
    hours = forms.TypedChoiceField(label=_("For"), choices=list(HOURS.items()), coerce=int, widget=Select)


class EventsInline(ReadOnlyInline[AlarmEvent]):
    model = AlarmEvent
    fields = ("at", "event", "actor_name", "reason", "is_notice")
    readonly_fields: ClassVar = fields
    ordering = ("pk",)
    per_page = 50


@admin.register(Alarm)
class AlarmAdmin(ReadOnlyAdmin[Alarm]):
    change_form_outer_before_template = "gateway_admin/audit_link.html"
    inlines = (EventsInline,)
    list_display = ("since", "what", "subject", "shown_severity", "shown_state", "acknowledged_by", "silenced_until")
    list_filter = (
        ("state", ChoicesDropdownFilter),
        ("severity", ChoicesDropdownFilter),
        ("condition", ChoicesDropdownFilter),
        ("since", CreationDaysFilter),
    )
    search_fields = ("subject", "rule_name")
    search_ids = ("pk", "rule_id")
    actions = ("acknowledge_chosen", "silence_chosen", "silence_end_chosen")
    actions_detail = ("acknowledge", "silence", "silence_end")
    fields = (
        *(
            "id",
            "what",
            "of_rule",
            "subject",
            "shown_severity",
            "shown_state",
            "says",
            "since",
            "fired_at",
            "clear_since",
        ),
        *("resolved_at", "is_unwatched", "notified_at", "acknowledged_at", "acknowledged_by", "silenced_until"),
    )
    readonly_fields: ClassVar = fields

    @admin.display(description=_("alarm"))
    def what(self, alarm: Alarm) -> str:
        return alarm.title

    @admin.display(description=_("rule"))
    def of_rule(self, alarm: Alarm) -> SafeString | str:
        return page_link(alarm.rule)

    @admin.display(description=_("says"))
    def says(self, alarm: Alarm) -> str:
        return alarm.sentence or EMPTY

    @label(_("severity"), SEVERITY_COLOURS)
    def shown_severity(self, alarm: Alarm) -> Labelled:
        return Labelled(alarm.severity, alarm.get_severity_display())

    @label(_("state"), STATE_COLOURS)
    def shown_state(self, alarm: Alarm) -> Labelled:
        return Labelled(alarm.state, alarm.get_state_display())

    def has_acknowledge_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return user_of(request).has_perm("integrations.acknowledge_alarm")

    def has_silence_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return user_of(request).has_perm("integrations.silence_alarm")

    @admin.action(description=_("Acknowledge…"), permissions=["acknowledge"])
    def acknowledge_chosen(self, request: HttpRequest, queryset: QuerySet[Alarm]) -> HttpResponse | None:
        return self._acknowledge(request, queryset)

    @admin.action(description=_("Silence…"), permissions=["silence"])
    def silence_chosen(self, request: HttpRequest, queryset: QuerySet[Alarm]) -> HttpResponse | None:
        return self._silence(request, queryset)

    @admin.action(description=_("End the silence…"), permissions=["silence"])
    def silence_end_chosen(self, request: HttpRequest, queryset: QuerySet[Alarm]) -> HttpResponse | None:
        return self._silence_end(request, queryset)

    @action(description=_("Acknowledge"), permissions=["acknowledge"], url_path="acknowledge", icon="done")
    def acknowledge(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._here(request, object_id, self._acknowledge)

    @action(description=_("Silence"), permissions=["silence"], url_path="silence", icon="notifications_paused")
    def silence(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._here(request, object_id, self._silence)

    @action(description=_("End the silence"), permissions=["silence"], url_path="silence-end", icon="notifications")
    def silence_end(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._here(request, object_id, self._silence_end)

    def _here(self, request: HttpRequest, object_id: str, act: Any) -> HttpResponse:
        alarm = self.get_object(request, object_id)
        if alarm is None:
            raise Http404
        answer: HttpResponse | None = act(request, Alarm.objects.filter(pk=alarm.pk), back_url=page_url(alarm))
        return answer or redirect(page_url(alarm))

    def _acknowledge(self, request: HttpRequest, rows: QuerySet[Alarm], back_url: str = "") -> HttpResponse | None:
        def act(row: Alarm, given: dict[str, Any]) -> None:
            alarm_acknowledge(actor=user_of(request), alarm=row, reason=given["reason"])

        return confirm(self, request, rows, title=_("Do you see to these alarms?"), act=act, back_url=back_url)

    def _silence(self, request: HttpRequest, rows: QuerySet[Alarm], back_url: str = "") -> HttpResponse | None:
        def act(row: Alarm, given: dict[str, Any]) -> None:
            until = timezone.now() + timedelta(hours=given["hours"])
            alarm_silence(actor=user_of(request), alarm=row, until=until, reason=given["reason"])

        title = _("Tell nobody of these alarms for a while?")
        return confirm(self, request, rows, title=title, act=act, form_class=SilenceForm, back_url=back_url)

    def _silence_end(self, request: HttpRequest, rows: QuerySet[Alarm], back_url: str = "") -> HttpResponse | None:
        def act(row: Alarm, given: dict[str, Any]) -> None:
            alarm_silence_end(actor=user_of(request), alarm=row, reason=given["reason"])

        return confirm(self, request, rows, title=_("Tell people of these alarms again?"), act=act, back_url=back_url)
