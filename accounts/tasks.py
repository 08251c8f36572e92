from celery import shared_task

from accounts.services import expired_sessions_delete


@shared_task
def delete_expired_sessions() -> None:
    expired_sessions_delete()
