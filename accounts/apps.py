from typing import ClassVar

from django.apps import AppConfig
from django.db.models.signals import post_migrate
from django.utils.translation import gettext_lazy as _


class AccountsConfig(AppConfig):
    name = "accounts"
    verbose_name = _("Accounts")
    built_in_role_permissions: ClassVar = {"operator": ["manage_own_apikey"], "service": ["manage_own_apikey"]}

    def ready(self) -> None:
        from accounts import checks, sqlite  # noqa: F401, PLC0415 - register a system check and a receiver
        from accounts.built_in_roles import ensure_built_in_roles  # noqa: PLC0415 - needs the models

        post_migrate.connect(ensure_built_in_roles, sender=self)
