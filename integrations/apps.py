from typing import ClassVar

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class IntegrationsConfig(AppConfig):
    name = "integrations"
    verbose_name = _("Services")
    built_in_role_permissions: ClassVar = {"service": ["view_serviceinstance", "register_serviceinstance"]}

    def ready(self) -> None:
        from integrations import health, metrics  # noqa: F401, PLC0415 - register readiness checks and collectors
        from integrations.checks import check_balancing, check_dialects, check_urls  # noqa: PLC0415 - models may be used now, not before

        check_balancing()
        check_dialects()
        check_urls()
