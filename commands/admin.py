from typing import Any, ClassVar

from django.contrib import admin

from commands.models import Command, CommandEvent, CommandResult, StageRun
from gateway.api.read_only_admin import ReadOnlyAdmin, ReadOnlyInline


class StageRunInline(ReadOnlyInline[StageRun]):
    model = StageRun
    fields = (
        "stage",
        "attempt",
        "instance",
        "remote_id",
        "started_at",
        "finished_at",
        "outcome",
        "error_code",
        "error_cause",
    )
    readonly_fields: ClassVar = fields


class CommandEventInline(ReadOnlyInline[CommandEvent]):
    model = CommandEvent
    fields = ("seq", "event", "status", "stage", "progress", "data", "at", "broadcast_at")
    readonly_fields: ClassVar = fields


class CommandResultInline(ReadOnlyInline[CommandResult]):
    model = CommandResult
    fields = ("success_rate", "summary", "output")
    readonly_fields: ClassVar = fields


@admin.register(Command)
class CommandAdmin(ReadOnlyAdmin[Command]):
    list_display = ("id", "__str__", "user", "status", "stage", "progress", "created_at", "finished_at")
    list_filter = ("status", "mode", "priority", "created_at")
    list_select_related = ("user",)
    search_fields = ("id", "text", "user__username")
    inlines = (StageRunInline, CommandResultInline, CommandEventInline)
    fieldsets: ClassVar[Any] = (
        (None, {"fields": ("id", "user", "text", "status", "stage", "progress")}),
        (
            "Request",
            {
                "fields": (
                    "mode",
                    "chaos_level",
                    "persona",
                    "priority",
                    "parameters",
                    "metadata",
                    "tags",
                    "deadline",
                    "request_id",
                )
            },
        ),
        ("Times", {"fields": ("created_at", "started_at", "finished_at")}),
        ("Error", {"fields": ("error_code", "error_stage", "error_cause")}),
        ("Files", {"fields": ("alt_file", "last_file", "atlas_file")}),
        ("Work", {"fields": ("lease_owner", "lease_expires_at", "due_at", "dispatch_at", "last_seq")}),
    )
