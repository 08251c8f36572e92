from collections.abc import Iterator
from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from accounts.models import Mail
from gateway.admin.filters import CreationDaysFilter, UserFilter
from gateway.admin.model_admin import Labelled, ReadOnlyAdmin, label, page_link
from gateway.admin.overview import Figure, figures
from gateway.admin.theme import ChoicesDropdownFilter, RadioFilter

STATES = {"waiting": _("waiting"), "sent": _("sent"), "unsent": _("not sent")}
STATE_COLOURS = {"waiting": "warning", "sent": "success", "unsent": ""}


@figures
def _figures() -> Iterator[Figure]:
    yield Figure(_("mails waiting"), Mail.objects.filter(due_at__isnull=False), {"state": "waiting"})


class StateFilter(RadioFilter):
    title = _("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return list(STATES.items())

    def queryset(self, request: HttpRequest, queryset: QuerySet[Mail]) -> QuerySet[Mail]:
        conditions = {
            "waiting": Q(due_at__isnull=False),
            "sent": Q(sent_at__isnull=False),
            "unsent": Q(due_at=None, sent_at=None),
        }
        return queryset.filter(conditions.get(self.value() or "", Q()))


@admin.register(Mail)
class MailAdmin(ReadOnlyAdmin[Mail]):
    list_display = ("created_at", "kind", "address", "whose", "state", "attempts", "sent_at")
    list_filter = (StateFilter, ("kind", ChoicesDropdownFilter), UserFilter, ("created_at", CreationDaysFilter))
    list_select_related = ("user",)
    search_fields = ("address", "user__username")
    search_ids = ("pk", "user_id")
    fields = ("id", "kind", "address", "user", "state", "data", "created_at", "due_at", "attempts", "sent_at")
    readonly_fields: ClassVar = fields

    @admin.display(description=_("user"))
    def whose(self, mail: Mail) -> SafeString | str:
        return page_link(mail.user)

    @label(_("state"), STATE_COLOURS)
    def state(self, mail: Mail) -> Labelled:
        state = "sent" if mail.sent_at else "waiting" if mail.due_at else "unsent"
        return Labelled(state, STATES[state])
