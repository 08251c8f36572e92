"""What belongs to a user, on their page."""

from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from accounts.admin import api_keys, sessions
from accounts.admin_site import user_of
from accounts.models import ApiKey, DeviceSession
from gateway.admin.model_admin import EMPTY, Labelled, ReadOnlyInline, label, page_link

PER_PAGE = 10


class _Actionable(ReadOnlyInline[Any]):
    """Rows with a link to the page where something can be done to them, for whoever may do it."""

    permission = ""
    can_be_done = False
    tab = True
    per_page = PER_PAGE
    ordering = ("-pk",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        self.can_be_done = user_of(request).has_perm(self.permission)  # an inline is made anew for each request
        return super().get_queryset(request).select_related("user")

    def link(self, row: Any, name: str, text: Any) -> SafeString | str:
        if not self.can_be_done:
            return EMPTY
        url = reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_{name}", args=(row.pk,))
        return format_html('<a href="{}" class="text-link">{}</a>', url, text)


class SessionsInline(_Actionable):
    model = DeviceSession
    permission = "accounts.end_session"
    fields = ("device", "state", "address", "last_seen_at", "created_at", "end")
    readonly_fields: ClassVar = fields

    @admin.display(description=_("device"))
    def device(self, session: DeviceSession) -> SafeString | str:
        return page_link(session, session.device_name or session.user_agent[:60] or str(session.id))

    @label(_("state"), sessions.STATE_COLOURS)
    def state(self, session: DeviceSession) -> Labelled:
        return sessions.state_of(session)

    @admin.display(description="")
    def end(self, session: DeviceSession) -> SafeString | str:
        return self.link(session, "end", _("End")) if session.is_open() else ""


class ApiKeysInline(_Actionable):
    model = ApiKey
    permission = "accounts.delete_apikey"
    fields = ("called", "prefix", "state", "last_used_at", "expires_at", "revoke")
    readonly_fields: ClassVar = fields

    @admin.display(description=_("name"))
    def called(self, key: ApiKey) -> SafeString | str:
        return page_link(key, key.name)

    @label(_("state"), api_keys.STATE_COLOURS)
    def state(self, key: ApiKey) -> Labelled:
        return api_keys.state_of(key)

    @admin.display(description="")
    def revoke(self, key: ApiKey) -> SafeString | str:
        return self.link(key, "revoke", _("Revoke")) if key.is_good() else ""
