from collections.abc import Iterator
from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from accounts.admin_site import user_of
from accounts.models import DeviceSession
from accounts.models.sessions import SessionEnd
from accounts.powers import powers_of
from accounts.services.sessions import sessions_end
from gateway.admin.confirmation import confirm
from gateway.admin.filters import CreationDaysFilter, UserFilter
from gateway.admin.model_admin import Labelled, ReadOnlyAdmin, label, page_link, page_url
from gateway.admin.overview import Figure, figures
from gateway.admin.theme import ChoicesDropdownFilter, RadioFilter, action

STATES = {"open": _("open"), "expired": _("expired"), "ended": _("ended")}
STATE_COLOURS = {"open": "success", "expired": "warning", "ended": ""}


@figures
def _figures() -> Iterator[Figure]:
    open_ones = DeviceSession.objects.filter(ended_at=None, expires_at__gt=timezone.now())
    yield Figure(_("open sessions"), open_ones, {"state": "open"})


class StateFilter(RadioFilter):
    title = _("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return list(STATES.items())

    def queryset(self, request: HttpRequest, queryset: QuerySet[DeviceSession]) -> QuerySet[DeviceSession]:
        now = timezone.now()
        conditions = {
            "open": Q(ended_at=None, expires_at__gt=now),
            "expired": Q(ended_at=None, expires_at__lte=now),
            "ended": Q(ended_at__isnull=False),
        }
        return queryset.filter(conditions.get(self.value() or "", Q()))


@admin.register(DeviceSession)
class DeviceSessionAdmin(ReadOnlyAdmin[DeviceSession]):
    list_display = ("device", "whose", "state", "address", "last_seen_at", "created_at")
    list_filter = (StateFilter, UserFilter, ("end_reason", ChoicesDropdownFilter), ("created_at", CreationDaysFilter))
    list_select_related = ("user",)
    search_fields = ("device_name", "user__username", "user__email", "address")
    search_ids = ("pk", "user_id")
    actions = ("end_chosen",)
    actions_detail = ("end",)
    fields = (
        "id",
        "user",
        "state",
        "device_name",
        "user_agent",
        "address",
        "created_at",
        "last_seen_at",
        "expires_at",
        "ended_at",
        "end_reason",
    )
    readonly_fields: ClassVar = fields

    @admin.display(description=_("device"))
    def device(self, session: DeviceSession) -> str:
        return session.device_name or session.user_agent[:60] or str(session.id)

    @admin.display(description=_("user"))
    def whose(self, session: DeviceSession) -> SafeString | str:
        return page_link(session.user)

    @label(_("state"), STATE_COLOURS)
    def state(self, session: DeviceSession) -> Labelled:
        return state_of(session)

    def has_end_session_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return user_of(request).has_perm("accounts.end_session")

    @admin.action(description=_("End…"), permissions=["end_session"])
    def end_chosen(self, request: HttpRequest, queryset: QuerySet[DeviceSession]) -> HttpResponse | None:
        return self._end(request, queryset)

    @action(description=_("End this session"), permissions=["end_session"], url_path="end", icon="logout")
    def end(self, request: HttpRequest, object_id: str) -> HttpResponse:
        session = self.get_object(request, object_id)
        if session is None:
            raise Http404
        answer = self._end(request, DeviceSession.objects.filter(pk=session.pk), back_url=page_url(session))
        return answer or redirect(page_url(session))

    def _end(self, request: HttpRequest, sessions: QuerySet[DeviceSession], back_url: str = "") -> HttpResponse | None:
        def act(session: DeviceSession, given: dict[str, Any]) -> None:
            actor = user_of(request)
            powers_of(actor).require_over(session.user)
            own = DeviceSession.objects.filter(pk=session.pk)
            sessions_end(sessions=own, actor=actor, reason=SessionEnd.ADMINISTRATOR, why=given["reason"])

        chosen = sessions.select_related("user")
        return confirm(self, request, chosen, title=_("End these sessions?"), act=act, back_url=back_url)


def state_of(session: DeviceSession) -> Labelled:
    """Return a key of STATES, and what to show for it."""
    if session.ended_at is not None:
        return Labelled("ended", session.get_end_reason_display() or STATES["ended"])
    key = "open" if session.is_open() else "expired"
    return Labelled(key, STATES[key])
