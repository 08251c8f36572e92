from collections.abc import Iterator
from typing import Any, ClassVar
from uuid import UUID

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from accounts.admin_site import user_of
from accounts.models import FailedSignIns, User
from accounts.selectors import user_by_login
from accounts.services.failed_sign_ins import failures_forget, failures_of
from gateway.admin.confirmation import confirm
from gateway.admin.filters import DaysFilter
from gateway.admin.model_admin import EMPTY, Labelled, ReadOnlyAdmin, label, page_link
from gateway.admin.overview import Figure, figures
from gateway.admin.theme import DropdownFilter, RadioFilter, TextFilter

KINDS = {
    "account": _("a login, from wherever"),
    "address": _("an address, for all logins"),
    "pair": _("a login from an address"),
    "code": _("codes of a second factor"),
}


@figures
def _figures() -> Iterator[Figure]:
    blocked = FailedSignIns.objects.filter(blocked_until__gt=timezone.now())
    yield Figure(_("sign-ins blocked now"), blocked, {"state": "blocked"}, alarming=True)


class KindFilter(DropdownFilter):
    title = _("what")
    parameter_name = "what"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return list(KINDS.items())

    def queryset(self, request: HttpRequest, queryset: QuerySet[FailedSignIns]) -> QuerySet[FailedSignIns]:
        return queryset.filter(key__startswith=f"{self.value()}:") if self.value() in KINDS else queryset


class BlockedFilter(RadioFilter):
    title = _("state")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("blocked", _("blocked now"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[FailedSignIns]) -> QuerySet[FailedSignIns]:
        return queryset.filter(blocked_until__gt=timezone.now()) if self.value() == "blocked" else queryset


class UserFilter(TextFilter):
    """Logins are kept as hashes: they are found by whom they belong to, not the other way round."""

    title = _("user")
    parameter_name = "user"

    def queryset(self, request: HttpRequest, queryset: QuerySet[FailedSignIns]) -> QuerySet[FailedSignIns]:
        value = (self.value() or "").strip()
        if not value:
            return queryset
        try:
            user = User.objects.filter(pk=UUID(value)).first()
        except ValueError:
            user = user_by_login(value)
        return queryset.filter(failures_of(user)) if user else queryset.none()


@admin.register(FailedSignIns)
class FailedSignInsAdmin(ReadOnlyAdmin[FailedSignIns]):
    list_display = ("what", "where", "failures", "blocked", "blocked_until", "last_failed_at")
    list_filter = (KindFilter, BlockedFilter, UserFilter, ("last_failed_at", DaysFilter))
    search_fields = ("key",)
    search_help_text = _("Address")
    search_ids = ()
    ordering = ("-last_failed_at",)
    actions = ("forget_chosen",)
    fields = ("what", "where", "failures", "last_failed_at", "blocked", "blocked_until")
    readonly_fields: ClassVar = fields

    @admin.display(description=_("what"))
    def what(self, row: FailedSignIns) -> str:
        return str(KINDS.get(row.key.partition(":")[0], row.key))

    @admin.display(description=_("address or user"))
    def where(self, row: FailedSignIns) -> SafeString | str:
        kind, _colon, rest = row.key.partition(":")
        if kind == "code":
            return page_link(User(pk=rest), _("user"))
        return {"address": rest, "pair": rest.partition("|")[2]}.get(kind, EMPTY)

    @label(_("state"), {"blocked": "danger", "open": ""})
    def blocked(self, row: FailedSignIns) -> Labelled:
        blocked = row.blocked_until is not None and row.blocked_until > timezone.now()
        return Labelled("blocked", _("blocked")) if blocked else Labelled("open", _("not blocked"))

    def has_unlock_user_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return user_of(request).has_perm("accounts.unlock_user")

    @admin.action(description=_("Forget…"), permissions=["unlock_user"])
    def forget_chosen(self, request: HttpRequest, queryset: QuerySet[FailedSignIns]) -> HttpResponse | None:
        def act(row: FailedSignIns, given: dict[str, Any]) -> None:
            failures_forget(actor=user_of(request), row=row, reason=given["reason"])

        title = _("Forget these failures? Blocks that came of them end.")
        return confirm(self, request, queryset, title=title, act=act)
