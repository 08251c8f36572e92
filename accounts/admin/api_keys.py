from typing import Any, ClassVar

from django.contrib import admin
from django.db.models import Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from accounts.admin_site import user_of
from accounts.models import ApiKey
from accounts.powers import powers_of
from accounts.services.api_keys import api_key_revoke
from gateway.admin.confirmation import confirm
from gateway.admin.filters import CreationDaysFilter, UserFilter
from gateway.admin.model_admin import Labelled, ReadOnlyAdmin, label, page_link, page_url
from gateway.admin.theme import RadioFilter, action

STATES = {"good": _("good"), "expired": _("expired"), "revoked": _("revoked")}
STATE_COLOURS = {"good": "success", "expired": "warning", "revoked": "danger"}


class StateFilter(RadioFilter):
    title = _("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return list(STATES.items())

    def queryset(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> QuerySet[ApiKey]:
        now = timezone.now()
        conditions = {
            "good": Q(revoked_at=None, expires_at__gt=now),
            "expired": Q(revoked_at=None, expires_at__lte=now),
            "revoked": Q(revoked_at__isnull=False),
        }
        return queryset.filter(conditions.get(self.value() or "", Q()))


@admin.register(ApiKey)
class ApiKeyAdmin(ReadOnlyAdmin[ApiKey]):
    """Keys are made by those who use them, since they are shown once. Here they are found and revoked."""

    list_display = ("name", "prefix", "whose", "state", "last_used_at", "expires_at", "created_at")
    list_filter = (StateFilter, UserFilter, ("created_at", CreationDaysFilter))
    list_select_related = ("user",)
    search_fields = ("name", "prefix", "user__username", "user__email")
    search_ids = ("pk", "user_id")
    actions = ("revoke_chosen",)
    actions_detail = ("revoke",)
    fields = (
        "id",
        "name",
        "prefix",
        "user",
        "state",
        "may",
        "created_at",
        "expires_at",
        "last_used_at",
        "last_used_address",
        "revoked_at",
    )
    readonly_fields: ClassVar = fields

    @admin.display(description=_("user"))
    def whose(self, key: ApiKey) -> SafeString | str:
        return page_link(key.user)

    @label(_("state"), STATE_COLOURS)
    def state(self, key: ApiKey) -> Labelled:
        return state_of(key)

    @admin.display(description=_("scopes"))
    def may(self, key: ApiKey) -> str:
        return "\n".join(sorted(key.scopes))

    def has_revoke_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return user_of(request).has_perm("accounts.delete_apikey")

    @admin.action(description=_("Revoke…"), permissions=["revoke"])
    def revoke_chosen(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> HttpResponse | None:
        return self._revoke(request, queryset)

    @action(description=_("Revoke this key"), permissions=["revoke"], url_path="revoke", icon="key_off")
    def revoke(self, request: HttpRequest, object_id: str) -> HttpResponse:
        key = self.get_object(request, object_id)
        if key is None:
            raise Http404
        answer = self._revoke(request, ApiKey.objects.filter(pk=key.pk), back_url=page_url(key))
        return answer or redirect(page_url(key))

    def _revoke(self, request: HttpRequest, keys: QuerySet[ApiKey], back_url: str = "") -> HttpResponse | None:
        def act(key: ApiKey, given: dict[str, Any]) -> None:
            powers_of(user_of(request)).require_over(key.user)
            api_key_revoke(actor=user_of(request), api_key=key, reason=given["reason"])

        chosen = keys.select_related("user")
        title = _("Revoke these keys? What uses them is shut out at once.")
        return confirm(self, request, chosen, title=title, act=act, back_url=back_url)


def state_of(key: ApiKey) -> Labelled:
    """Return a key of STATES, and what to show for it."""
    state = "revoked" if key.revoked_at else "good" if key.is_good() else "expired"
    return Labelled(state, STATES[state])
