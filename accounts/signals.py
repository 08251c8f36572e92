"""News from this room for the rooms above it."""

from django.dispatch import Signal

session_ended = Signal()
"""Sent after the commit that ended a session, with `session_id`."""
