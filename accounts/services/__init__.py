"""Every write of this room, by topic."""
