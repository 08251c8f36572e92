"""What can be done to many commands at once, and to one from its page. Each asks for confirmation and a reason."""

from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext_lazy as _

from accounts.admin_site import user_of
from commands.interventions import command_cancel_for, command_requeue, command_retry_for
from commands.models import Command
from gateway.admin.confirmation import ReasonForm, confirm, confirm_here
from gateway.admin.model_admin import ReadOnlyAdmin
from gateway.admin.theme import Switch, action

CANCEL = _("Cancel these commands?")
RETRY = _("Send these commands once more, for the same users?")
REQUEUE = _("Let workers look at these commands now, whatever they wait for?")
REQUEUE_WARNING = _("What a living worker holds stays with it, and what is held back by a limit stays held back.")


class RetryForm(ReasonForm):
    from_start = forms.BooleanField(
        label=_("From the start"),
        help_text=_("Otherwise each goes on after its last stage that succeeded."),
        required=False,
        widget=Switch,
    )


class CommandActs(ReadOnlyAdmin[Command]):
    actions = ("cancel", "retry", "requeue")
    actions_detail = ("cancel_here", "retry_here", "requeue_here")

    def has_cancel_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self._may(request, "commands.cancel_command")

    def has_retry_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self._may(request, "commands.retry_command")

    def has_requeue_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return self._may(request, "commands.requeue_command")

    def _may(self, request: HttpRequest, permission: str) -> bool:
        """Tell whether somebody may do it, of which seeing the command is part."""
        return self.has_view_permission(request) and user_of(request).has_perm(permission)

    @admin.action(description=_("Cancel…"), permissions=["cancel"])
    def cancel(self, request: HttpRequest, queryset: QuerySet[Command]) -> HttpResponse | None:
        return confirm(self, request, queryset, title=CANCEL, act=_doing(command_cancel_for, request))

    @admin.action(description=_("Retry…"), permissions=["retry"])
    def retry(self, request: HttpRequest, queryset: QuerySet[Command]) -> HttpResponse | None:
        return confirm(
            self, request, queryset, title=RETRY, act=_doing(command_retry_for, request), form_class=RetryForm
        )

    @admin.action(description=_("Requeue…"), permissions=["requeue"])
    def requeue(self, request: HttpRequest, queryset: QuerySet[Command]) -> HttpResponse | None:
        act = _doing(command_requeue, request)
        return confirm(self, request, queryset, title=REQUEUE, act=act, warning=REQUEUE_WARNING)

    @action(description=_("Cancel"), permissions=["cancel"], url_path="cancel", icon="cancel")
    def cancel_here(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return confirm_here(self, request, object_id, title=CANCEL, act=_doing(command_cancel_for, request))

    @action(description=_("Retry"), permissions=["retry"], url_path="retry", icon="replay")
    def retry_here(self, request: HttpRequest, object_id: str) -> HttpResponse:
        act = _doing(command_retry_for, request)
        return confirm_here(self, request, object_id, title=RETRY, act=act, form_class=RetryForm)

    @action(description=_("Requeue"), permissions=["requeue"], url_path="requeue", icon="low_priority")
    def requeue_here(self, request: HttpRequest, object_id: str) -> HttpResponse:
        act = _doing(command_requeue, request)
        return confirm_here(self, request, object_id, title=REQUEUE, act=act, warning=REQUEUE_WARNING)


def _doing(service: Callable[..., object], request: HttpRequest) -> Callable[[Command, dict[str, Any]], object]:
    by = user_of(request)
    return lambda command, given: service(command=command, by=by, **given)
