from collections.abc import Iterator
from datetime import timedelta
from typing import Any, ClassVar
from uuid import UUID

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import URLPattern, path
from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from commands.admin_limits import CommandLimitAdmin
from commands.models import Command, CommandResult, StageRun
from commands.states import Stage, Status
from gateway.admin.filters import CreationDaysFilter, UserFilter
from gateway.admin.model_admin import EMPTY, Labelled, ReadOnlyAdmin, ReadOnlyInline, label, page_link, page_url
from gateway.admin.overview import Figure, figures
from gateway.admin.theme import ChoicesDropdownFilter, RadioFilter
from gateway.ids import first_id_at

__all__ = ["CommandAdmin", "CommandLimitAdmin"]

STATUS_COLOURS = {
    Status.COMPLETED: "success",
    Status.FAILED: "danger",
    Status.CANCELLED: "",
    Status.CANCELLING: "warning",
    Status.QUEUED: "",
}


@figures
def _figures() -> Iterator[Figure]:
    unfinished = Command.objects.filter(finished_at=None)
    yield Figure(_("commands not finished"), unfinished, {"finished": "no"})
    since = timezone.now() - timedelta(days=1)
    failed = Command.objects.filter(pk__gte=first_id_at(since), status=Status.FAILED)
    yield Figure(_("commands failed in 24 hours"), failed, {"status__exact": Status.FAILED}, alarming=True)


class UnfinishedFilter(RadioFilter):
    """By an index that holds only what has not finished."""

    title = _("finished")
    parameter_name = "finished"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("no", _("No")), ("yes", _("Yes"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Command]) -> QuerySet[Command]:
        if self.value() in ("no", "yes"):
            return queryset.filter(finished_at__isnull=self.value() == "no")
        return queryset


class StepFilter(RadioFilter):
    """Whole commands, or steps by themselves."""

    title = _("step by itself")
    parameter_name = "step"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("no", _("No")), *Stage.choices]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Command]) -> QuerySet[Command]:
        value = self.value()
        if value == "no":
            return queryset.filter(only_stage=None)
        return queryset.filter(only_stage=value) if value in Stage.values else queryset


class StageRunInline(ReadOnlyInline[StageRun]):
    model = StageRun
    fields = (
        "stage",
        "attempt",
        "instance",
        "remote_id",
        "started_at",
        "finished_at",
        "outcome",
        "not_taken",
        "error_code",
        "error_cause",
    )
    readonly_fields: ClassVar = fields
    tab = True
    per_page = 50


class CommandResultInline(ReadOnlyInline[CommandResult]):
    model = CommandResult
    fields = ("success_rate", "summary", "output")
    readonly_fields: ClassVar = fields
    tab = True


@admin.register(Command)
class CommandAdmin(ReadOnlyAdmin[Command]):
    list_display = ("short_text", "whose", "shown_status", "stage", "progress", "created_at", "finished_at")
    list_filter = (
        UnfinishedFilter,
        StepFilter,
        ("status", ChoicesDropdownFilter),
        ("mode", ChoicesDropdownFilter),
        ("priority", ChoicesDropdownFilter),
        UserFilter,
        ("created_at", CreationDaysFilter),
    )
    list_select_related = ("user",)
    search_fields = ("text", "user__username")
    search_ids = ("pk", "user_id", "retry_of_id")
    search_help_text = _("Text, user name or id")
    inlines = (CommandResultInline, StageRunInline)  # of a table with a key of two columns the admin makes none
    readonly_fields = ("retries",)
    fieldsets: ClassVar[Any] = (
        (None, {"fields": ("id", "user", "text", "only_stage", "status", "stage", "progress", "retry_of", "retries")}),
        (_("Files"), {"fields": ("alt_file", "last_file", "atlas_file")}),
        (_("Error"), {"fields": ("error_code", "error_stage", "error_cause")}),
        (_("Times"), {"fields": ("created_at", "started_at", "finished_at")}),
        (
            _("Request"),
            {
                "fields": (
                    "mode",
                    "chaos_level",
                    "persona",
                    "priority",
                    "parameters",
                    "metadata",
                    "tags",
                    "target",
                    "deadline",
                    "request_id",
                )
            },
        ),
        (_("Work"), {"fields": ("lease_owner", "lease_expires_at", "due_at", "turn_at", "held", "deaths", "last_seq")}),
    )

    @admin.display(description=_("command"))
    def short_text(self, command: Command) -> str:
        return str(command) or EMPTY

    @admin.display(description=_("user"))
    def whose(self, command: Command) -> SafeString | str:
        return page_link(command.user)

    @label(_("status"), {status: STATUS_COLOURS.get(status, "info") for status in Status})
    def shown_status(self, command: Command) -> Labelled:
        return Labelled(command.status, command.get_status_display())

    @admin.display(description=_("retried as"))
    def retries(self, command: Command) -> SafeString | str:
        newest: QuerySet[Command] = command.retries.order_by("-pk")
        return page_link(newest.first())

    def get_urls(self) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.of_file)
        return [path("of-file/<uuid:file_id>/", view, name="commands_command_of_file"), *super().get_urls()]

    def of_file(self, request: HttpRequest, file_id: UUID) -> HttpResponse:
        """Lead from a file to its command: the files' room, being lower, does not know commands."""
        own = Q(alt_file=file_id) | Q(last_file=file_id) | Q(atlas_file=file_id)
        command = Command.objects.filter(own).order_by("-pk").first()
        if command is None:
            raise Http404
        return redirect(page_url(command))
