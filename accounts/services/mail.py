"""Mails go out by way of a table: what was promised is sent, whatever dies meanwhile.

Nobody waits for a mail server but a worker. It claims a row by moving its `due_at` ahead, so that no other worker sends
the same mail; one that dies before it could write down the outcome leaves a mail that is sent again (at least once,
with the same Message-ID).
"""

import logging
import smtplib
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from celery import current_app
from django.conf import settings
from django.db import transaction
from django.utils import timezone
from kombu.exceptions import OperationalError

from accounts.mail_texts import message_of
from accounts.models import Mail, User
from accounts.models.mail import MailKind
from gateway.batches import delete_in_batches
from gateway.locks import alone, transaction_lock

logger = logging.getLogger(__name__)

# No task lives as long: who claimed a mail and has not settled it by then is dead.
CLAIM = timedelta(seconds=settings.CELERY_TASK_TIME_LIMIT + 20)
FIRST_DELAY, LONGEST_DELAY = timedelta(seconds=30), timedelta(hours=1)
RUN_SECONDS, AT_A_TIME = 30, 100
MAX_ATTEMPTS = 30  # about a day
KEEP = timedelta(days=30)
WAKE_EXPIRES = 60
# Errors of smtplib are OSErrors all.
_ABOUT_THE_MAIL = (smtplib.SMTPRecipientsRefused, smtplib.SMTPDataError)
PERMANENT = 500  # from here on, an SMTP reply says that trying again is no use (RFC 5321, 4.2.1)


def mail_send(kind: MailKind, *, user: User | None, address: str = "", data: dict[str, Any] | None = None) -> Mail:
    """Put a mail into the outbox, to the address or else to the user's. A worker is woken after the commit."""
    mail = Mail.objects.create(
        kind=kind, user=user, address=address or (user.email if user else ""), data=data or {}, due_at=timezone.now()
    )
    transaction.on_commit(_wake, robust=True)
    return mail


def mailed_too_often(kind: MailKind, address: str) -> bool:
    """Return whether a mail of the kind went to the address within the last minute, or five within the last hour.

    Call it in the transaction that puts another one into the outbox: one after the other.
    """
    transaction_lock(f"mail:{kind}:{address}")
    now = timezone.now()
    recent = Mail.objects.filter(kind=kind, address=address, created_at__gt=now - timedelta(hours=1))
    times = list(recent.order_by("-created_at").values_list("created_at", flat=True)[:5])
    return len(times) == 5 or any(at > now - timedelta(minutes=1) for at in times)  # noqa: PLR2004 - as said above


def mails_send_alone() -> int:
    """Send what is due, unless somebody is at it already: a slow mail server holds one worker process, not all."""
    with alone("mails-send", lasts=RUN_SECONDS + 6 * settings.EMAIL_TIMEOUT) as nobody_else_is_at_it:
        return mails_send_due() if nobody_else_is_at_it else 0


def mails_send_due() -> int:
    """Send what is due, until nothing is, the mail server cannot be reached, or it takes long. Return how many went."""
    sent = 0
    for mail_id, due_at in _due():
        mail = _claim(mail_id, due_at)
        if mail is None:
            continue
        try:
            sent += _send(mail)
        except Exception as error:  # noqa: BLE001 - one mail must not keep back the others
            _try_later(mail, error)
            if not isinstance(error, _ABOUT_THE_MAIL) and isinstance(error, OSError):
                break  # the server is the trouble: the others need not find that out one by one
    return sent


def settled_mails_delete(*, batch: int = 1000) -> int:
    """Delete mails that were settled long ago. Return how many."""
    return delete_in_batches(Mail.objects.filter(due_at=None, created_at__lt=timezone.now() - KEEP), batch=batch)


def _wake() -> None:
    try:
        current_app.send_task("accounts.tasks.mails_send", expires=WAKE_EXPIRES)
    except (OperationalError, OSError) as error:
        logger.warning("no message about a mail, the sweep will find it: %r", error)


def _due() -> Iterator[tuple[Any, datetime]]:
    """Yield what is due, and what becomes due meanwhile, for RUN_SECONDS: a worker has other things to do too.

    Whoever takes one must move its `due_at`, or it comes again.
    """
    ends_at = time.monotonic() + RUN_SECONDS
    while due := list(
        Mail.objects.filter(due_at__lte=timezone.now()).order_by("due_at").values_list("id", "due_at")[:AT_A_TIME]
    ):
        for mail_id, due_at in due:
            if time.monotonic() > ends_at:
                return
            if due_at is not None:
                yield mail_id, due_at


def _claim(mail_id: Any, due_at: datetime) -> Mail | None:
    """Take a mail that is still as it was seen, None if another worker has it."""
    mail = Mail.objects.select_related("user").filter(id=mail_id, due_at=due_at).first()
    if mail is None:
        return None
    attempts = mail.attempts + 1
    claimed_until = timezone.now() + CLAIM
    if not Mail.objects.filter(id=mail_id, due_at=due_at).update(due_at=claimed_until, attempts=attempts):
        return None
    mail.attempts, mail.due_at = attempts, claimed_until
    return mail


def _send(mail: Mail) -> bool:
    """Return whether there was something to send, and somebody to send it to."""
    message = message_of(mail)
    if message is None:
        _settle(mail, sent_at=None)
        return False
    try:
        message.send()
    except smtplib.SMTPRecipientsRefused as error:
        if any(code < PERMANENT for code, _text in error.recipients.values()):
            raise
        logger.warning("mail %s (%s) was refused for good: %r", mail.id, mail.kind, error)
        _settle(mail, sent_at=None)
        return False
    _settle(mail, sent_at=timezone.now())
    return True


def _try_later(mail: Mail, error: Exception) -> None:
    if mail.attempts >= MAX_ATTEMPTS:
        logger.error("mail %s (%s) was given up after %s attempts: %r", mail.id, mail.kind, mail.attempts, error)
        _settle(mail, sent_at=None)
        return
    delay = min(FIRST_DELAY * 2 ** (mail.attempts - 1), LONGEST_DELAY)
    logger.warning("mail %s (%s) was not sent, the next try is in %s: %r", mail.id, mail.kind, delay, error)
    Mail.objects.filter(id=mail.id, due_at=mail.due_at).update(due_at=timezone.now() + delay)


def _settle(mail: Mail, *, sent_at: datetime | None) -> None:
    Mail.objects.filter(id=mail.id).update(due_at=None, sent_at=sent_at)
