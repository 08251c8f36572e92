from celery import shared_task

from integrations.health import check_instances


@shared_task
def check_services() -> None:
    check_instances()
