from typing import ClassVar

from django.apps import AppConfig
from django.db.models.signals import post_migrate
from django.utils.translation import gettext_lazy as _


class CommandsConfig(AppConfig):
    name = "commands"
    verbose_name = _("Commands")
    built_in_role_permissions: ClassVar = {
        "viewer": ["read_own_command", "search_own_archive"],
        "operator": ["submit_command", "cancel_own_command", "submit_step"],
    }

    def ready(self) -> None:
        from commands import alarms, metrics  # noqa: F401, PLC0415 - say what rules and metrics can tell of commands
        from commands.partitions import months_make  # noqa: PLC0415 - models are ready only now

        post_migrate.connect(lambda **_kwargs: months_make(), sender=self, weak=False, dispatch_uid="months_make")
