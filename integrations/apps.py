from django.apps import AppConfig


class IntegrationsConfig(AppConfig):
    name = "integrations"

    def ready(self) -> None:
        from integrations import health  # noqa: F401, PLC0415 - registers the readiness checks
        from integrations.checks import check_dialects  # noqa: PLC0415 - models may be used now, not before

        check_dialects()
