"""The admin pages of this room."""

from commands.admin import commands, limits, retention

__all__ = ["commands", "limits", "retention"]
