"""How users are found in the list."""

from datetime import timedelta
from typing import Any

from django.db.models import Count, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.models import DeviceSession, Role, User
from gateway.admin.theme import DropdownFilter, RadioFilter


def with_open_sessions(users: QuerySet[User]) -> QuerySet[User]:
    """Count by a subquery: it is asked of the rows that are shown, not of all."""
    open_ones = DeviceSession.objects.filter(user=OuterRef("pk"), ended_at=None, expires_at__gt=timezone.now())
    counted = open_ones.order_by().values("user").annotate(count=Count("pk")).values("count")
    return users.annotate(open_sessions=Coalesce(Subquery(counted), 0))


class RoleFilter(DropdownFilter):
    title = _("role")
    parameter_name = "role"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(role.name, role.name) for role in Role.objects.order_by("name")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[User]) -> QuerySet[User]:
        return queryset.filter(groups__name=self.value()) if self.value() else queryset


class VerifiedFilter(RadioFilter):
    title = _("email verified")
    parameter_name = "verified"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("yes", _("Yes")), ("no", _("No"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[User]) -> QuerySet[User]:
        if self.value() in ("yes", "no"):
            return queryset.filter(email_verified_at__isnull=self.value() == "no")
        return queryset


class LastSignInFilter(RadioFilter):
    title = _("last sign-in")
    parameter_name = "signed_in"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [
            ("7", _("in the last 7 days")),
            ("30", _("in the last 30 days")),
            ("not90", _("not for 90 days")),
            ("never", _("never")),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[User]) -> QuerySet[User]:
        now = timezone.now()
        conditions = {
            "7": Q(last_login__gte=now - timedelta(days=7)),
            "30": Q(last_login__gte=now - timedelta(days=30)),
            "not90": Q(last_login__lt=now - timedelta(days=90)),
            "never": Q(last_login=None),
        }
        return queryset.filter(conditions.get(self.value() or "", Q()))
