from django.apps import AppConfig


class NotificationsConfig(AppConfig):
    name = "notifications"

    def ready(self) -> None:
        from notifications import broadcast  # noqa: F401, PLC0415 - connects the receivers
