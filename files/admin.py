from typing import ClassVar

from django.contrib import admin
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from files.models import StoredFile
from files.selectors import file_text
from gateway.api.read_only_admin import ReadOnlyAdmin


@admin.register(StoredFile)
class StoredFileAdmin(ReadOnlyAdmin[StoredFile]):
    list_display = ("name", "kind", "owner", "size", "created_at")
    list_filter = ("kind", "created_at")
    list_select_related = ("owner",)
    search_fields = ("id", "name", "sha256", "owner__username")
    fields = ("id", "kind", "name", "owner", "size", "sha256", "created_at", "text")
    readonly_fields: ClassVar = fields

    @admin.display(description=_("content"))
    def text(self, file: StoredFile) -> SafeString | str:
        try:
            return format_html("<pre>{}</pre>", file_text(file)[:100_000])
        except OSError:
            return str(_("The storage does not have this file."))
