"""The admin pages of this room."""

from commands.admin import commands

__all__ = ["commands"]
