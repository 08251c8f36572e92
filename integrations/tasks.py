from celery import shared_task

from integrations.discovery import sync_instances
from integrations.health import check_instances, old_checks_delete


@shared_task
def check_services() -> None:
    sync_instances()
    check_instances()


@shared_task
def delete_old_checks() -> None:
    old_checks_delete()
