from typing import ClassVar

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class FilesConfig(AppConfig):
    name = "files"
    verbose_name = _("Files")
    built_in_role_permissions: ClassVar = {"viewer": ["read_own_storedfile"]}

    def ready(self) -> None:
        from files import signals  # noqa: F401, PLC0415 - connects the receiver
