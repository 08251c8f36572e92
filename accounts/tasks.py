from celery import shared_task

from accounts.services.api_keys import dead_api_keys_delete
from accounts.services.failed_sign_ins import old_failures_delete
from accounts.services.mail import mails_send_due, settled_mails_delete
from accounts.services.sessions import expired_sessions_delete


@shared_task
def delete_expired_sessions() -> None:
    expired_sessions_delete()


@shared_task
def mails_send() -> None:
    """Send the mails that are due: when one was put into the outbox, and now and then for what failed."""
    mails_send_due()


@shared_task
def delete_settled_mails() -> None:
    settled_mails_delete()


@shared_task
def delete_dead_api_keys() -> None:
    dead_api_keys_delete()


@shared_task
def delete_old_failures() -> None:
    old_failures_delete()
