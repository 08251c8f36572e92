from typing import ClassVar

from django.contrib import admin
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from files.models import StoredFile
from files.selectors import file_text
from gateway.admin.filters import CreationDaysFilter, OwnerFilter
from gateway.admin.model_admin import ReadOnlyAdmin, page_link
from gateway.admin.theme import ChoicesDropdownFilter

SHOWN = 100_000


@admin.register(StoredFile)
class StoredFileAdmin(ReadOnlyAdmin[StoredFile]):
    list_display = ("name", "kind", "whose", "command", "size", "created_at")
    list_filter = (("kind", ChoicesDropdownFilter), OwnerFilter, ("created_at", CreationDaysFilter))
    list_select_related = ("owner",)
    search_fields = ("name", "sha256", "owner__username")
    search_ids = ("pk", "owner_id")
    search_help_text = _("Name, SHA-256, owner or id")
    fields = ("id", "kind", "name", "owner", "command", "size", "sha256", "created_at", "text")
    readonly_fields: ClassVar = fields

    @admin.display(description=_("owner"))
    def whose(self, file: StoredFile) -> SafeString | str:
        return page_link(file.owner)

    @admin.display(description=_("command"))
    def command(self, file: StoredFile) -> SafeString:
        """Link by way of the commands' room, which knows whose file it is."""
        url = reverse("admin:commands_command_of_file", args=(file.pk,))
        return format_html('<a href="{}" class="text-link">{}</a>', url, _("its command"))

    @admin.display(description=_("content"))
    def text(self, file: StoredFile) -> SafeString | str:
        try:
            return format_html('<pre class="file-content">{}</pre>', file_text(file)[:SHOWN])
        except OSError:
            return str(_("The storage does not have this file."))
