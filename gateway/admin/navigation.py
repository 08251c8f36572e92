from typing import Any

from django.apps import apps
from django.contrib import admin
from django.http import HttpRequest
from django.templatetags.static import static
from django.urls import reverse
from django.utils.text import capfirst
from django.utils.translation import gettext_lazy as _

# Groups of lists, each with its icon, and a title if that of the model is not translated.
_GROUPS: tuple[tuple[Any, tuple[tuple[Any, ...], ...]], ...] = (
    (_("People and access"), (
        ("accounts.User", "person"),
        ("accounts.Role", "shield_person"),
        ("accounts.DeviceSession", "devices"),
        ("accounts.ApiKey", "key"),
        ("accounts.RouteRule", "rule"),
    )),
    (_("Security"), (
        ("accounts.AuditEntry", "history"),
        ("accounts.FailedSignIns", "lock_clock"),
        ("accounts.Mail", "mail"),
    )),
    (_("Work"), (
        ("commands.Command", "terminal", _("Commands")),
        ("commands.CommandLimit", "speed"),
        ("files.StoredFile", "description", _("Files")),
        ("commands.RetentionRule", "auto_delete"),
        ("integrations.ServiceInstance", "dns"),
        ("integrations.Alarm", "notifications_active"),
        ("integrations.AlarmRule", "tune"),
    )),
)  # fmt: skip


def navigation(request: HttpRequest) -> list[dict[str, Any]]:
    """Return the sidebar: the lists that this administrator may see."""
    home = {"title": _("Overview"), "icon": "home", "link": reverse("admin:index")}
    groups: list[dict[str, Any]] = [{"items": [home]}]
    for title, entries in _GROUPS:
        items = [_item(*entry) for entry in entries if _may_see(request, entry[0])]
        if items:
            groups.append({"title": title, "separator": True, "items": items})
    return groups


def own_account(_request: HttpRequest) -> list[dict[str, Any]]:
    return [
        {"title": _("Change password"), "link": reverse("admin:password_change")},
        {"title": _("Second factor"), "link": reverse("admin:second_factor")},
    ]


def stylesheet(_request: HttpRequest) -> str:
    return static("gateway_admin/pages.css")


def icon(_request: HttpRequest) -> str:
    return static("gateway_admin/icon.svg")


def _may_see(request: HttpRequest, name: str) -> bool:
    page = admin.site._registry.get(apps.get_model(name))  # noqa: SLF001 - Django has no other way to ask
    return page is not None and page.has_view_or_change_permission(request)


def _item(name: str, icon: str, title: Any = None) -> dict[str, Any]:
    options = apps.get_model(name)._meta  # noqa: SLF001 - documented API of models
    link = reverse(f"admin:{options.app_label}_{options.model_name}_changelist")
    return {"title": title or capfirst(options.verbose_name_plural), "icon": icon, "link": link}
