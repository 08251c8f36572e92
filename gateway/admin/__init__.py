"""What the admin pages of all rooms are built from. The only place that knows django-unfold."""
