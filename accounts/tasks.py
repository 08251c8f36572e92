from celery import shared_task

from accounts.idempotency import old_answers_delete
from accounts.second_factor import old_pending_delete
from accounts.services.api_keys import dead_api_keys_delete
from accounts.services.failed_sign_ins import old_failures_delete
from accounts.services.mail import mails_send_alone, settled_mails_delete
from accounts.services.sessions import expired_sessions_delete


@shared_task
def delete_expired_sessions() -> None:
    expired_sessions_delete()


@shared_task
def mails_send() -> None:
    """Send the mails that are due: when one was put into the outbox, and now and then for what failed."""
    mails_send_alone()


@shared_task
def delete_settled_mails() -> None:
    settled_mails_delete()


@shared_task
def delete_dead_api_keys() -> None:
    dead_api_keys_delete()


@shared_task
def delete_old_answers() -> None:
    old_answers_delete()


@shared_task
def delete_old_pending_second_factors() -> None:
    old_pending_delete()


@shared_task
def delete_old_failures() -> None:
    old_failures_delete()
