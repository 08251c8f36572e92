from celery import shared_task

from gateway.locks import alone
from integrations.alarms.delivery import events_publish_again
from integrations.alarms.engine import alarms_evaluate_alone, old_alarms_delete
from integrations.discovery import sync_instances
from integrations.health import ROUND_SECONDS, check_instances, old_checks_delete
from integrations.services import left_instances_delete, silent_instances_leave


@shared_task
def check_services() -> None:
    with alone("check-services", lasts=2 * ROUND_SECONDS) as entered:
        if entered:
            sync_instances()
            check_instances()


@shared_task
def delete_old_checks() -> None:
    old_checks_delete()


@shared_task
def evaluate_alarms() -> None:
    alarms_evaluate_alone()
    events_publish_again()


@shared_task
def delete_old_alarms() -> None:
    old_alarms_delete()


@shared_task
def delete_left_services() -> None:
    silent_instances_leave()
    left_instances_delete()
