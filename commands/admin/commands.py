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

from commands.admin.acts import CommandActs
from commands.admin.filters import (
    ErrorCodeFilter,
    StageFilter,
    StatusFilter,
    StepFilter,
    TroubleFilter,
    UnfinishedFilter,
    searched,
)
from commands.admin.story import STATUS_COLOURS, story_of
from commands.models import Command
from commands.states import Status
from gateway.admin.filters import CreationDaysFilter, UserFilter
from gateway.admin.model_admin import EMPTY, Labelled, label, page_link, page_url
from gateway.admin.overview import Figure, figures
from gateway.admin.theme import ChoicesDropdownFilter
from gateway.ids import first_id_at


@figures
def _figures() -> Iterator[Figure]:
    yield Figure(_("commands not finished"), Command.objects.filter(finished_at=None), {"finished": "no"})
    since = timezone.now() - timedelta(days=1)
    failed = Command.objects.filter(pk__gte=first_id_at(since), status=Status.FAILED)
    yield Figure(_("commands failed in 24 hours"), failed, {"status__exact": Status.FAILED}, alarming=True)


@admin.register(Command)
class CommandAdmin(CommandActs):
    list_display = (
        "short_text",
        "whose",
        "shown_status",
        "stage",
        "progress",
        "priority",
        "error_code",
        "created_at",
        "finished_at",
    )
    list_filter = (
        UnfinishedFilter,
        TroubleFilter,
        ("status", StatusFilter),
        ("stage", StageFilter),
        ErrorCodeFilter,
        UserFilter,
        ("mode", ChoicesDropdownFilter),
        ("priority", ChoicesDropdownFilter),
        ("created_at", CreationDaysFilter),
        StepFilter,
    )
    list_select_related = ("user",)
    search_fields = ("text",)
    search_ids = ("pk", "user_id", "retry_of_id")
    search_help_text = _("Part of the text (three letters or more), user name, e-mail address or id")
    change_form_outer_before_template = "commands_admin/story.html"
    fieldsets: ClassVar[Any] = (
        (
            _("Request"),
            {
                "fields": (
                    "id",
                    "mode",
                    "chaos_level",
                    "persona",
                    "priority",
                    "parameters",
                    "metadata",
                    "tags",
                    "target",
                    "deadline",
                    "only_stage",
                    "request_id",
                    "idempotency_key",
                )
            },
        ),
        (_("Work"), {"fields": ("lease_owner", "lease_expires_at", "due_at", "last_seq")}),
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

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Command], search_term: str
    ) -> tuple[QuerySet[Command], bool]:
        term = search_term.strip()
        try:
            UUID(term)
        except ValueError:
            return (searched(queryset, term) if term else queryset), False
        return super().get_search_results(request, queryset, term)

    def render_change_form(self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        command = kwargs.get("obj")
        if command is not None:
            context["story"] = story_of(command, page=request.GET.get("events", ""))
        return super().render_change_form(request, context, *args, **kwargs)

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
