"""News from this room for the rooms above it. All are sent after the commit."""

from django.dispatch import Signal

session_ended = Signal()
"""A session or API key is worth nothing any more; with `credential_id`."""

access_changed = Signal()
"""What a user may do has changed; with `user_id`, or None if it may have changed for anybody."""
