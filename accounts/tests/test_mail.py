"""The outbox: what is promised is sent once, whatever happens to the mail server."""

import email
import email.policy
import logging
import socket
import socketserver
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from threading import Barrier, Event, Thread

import pytest
from django.conf import settings as django_settings
from django.core import mail
from django.db import connection, transaction
from django.db.models import F
from django.utils import timezone
from redis.exceptions import ConnectionError as RedisConnectionError

from accounts.mail_tokens import user_of_reset_token
from accounts.models import Mail, User
from accounts.models.mail import MailKind
from accounts.services import mail as outbox
from accounts.services.mail import mail_send, mails_send_alone, mails_send_due, settled_mails_delete
from accounts.tasks import delete_settled_mails, mails_send
from conftest import PASSWORD

pytestmark = pytest.mark.django_db


class SmtpHandler(socketserver.StreamRequestHandler):
    """As much of SMTP (RFC 5321) as is needed to take a mail, or to refuse it."""

    def handle(self):
        self.reply("220 test")
        while line := self.rfile.readline().decode().strip():
            verb = line.split(" ")[0].upper()
            if verb == "DATA":
                self.reply("354 go on")
                self.take()
            elif verb == "QUIT":
                self.reply("221 bye")
                return
            else:
                refusal = self.server.refusals.get(verb) if self.server.refused in line else None
                self.reply(refusal or "250 ok")

    def take(self):
        lines = []
        while (line := self.rfile.readline()) not in (b".\r\n", b""):
            lines.append(line)
        refusal = self.server.refusals.get("DATA")
        if refusal is None:
            self.server.taken.append(email.message_from_bytes(b"".join(lines), policy=email.policy.default))
        self.reply(refusal or "250 ok")

    def reply(self, line):
        self.wfile.write(line.encode() + b"\r\n")


class SmtpServer(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), SmtpHandler)
        self.taken, self.refusals, self.refused = [], {}, ""


@contextmanager
def running(server) -> Iterator[SmtpServer]:
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def smtp(settings):
    with running(SmtpServer()) as server:
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT = server.server_address
        yield server


@pytest.fixture
def no_smtp(settings):
    """A mail server that is down: nobody listens at its port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT = listening.getsockname()


def due_in(row):
    row.refresh_from_db()
    return row.due_at - timezone.now()


def let_it_be_due():
    Mail.objects.filter(due_at__isnull=False).update(due_at=timezone.now())


# --- sending ---------------------------------------------------------------------------------------------------------


def test_a_mail_goes_out_once_to_a_real_server(alice, smtp, settings):
    settings.DEFAULT_FROM_EMAIL = "ALT_LAS <gateway@gateway.example>"
    row = mail_send(MailKind.PASSWORD_CHANGED, user=alice)
    assert mails_send_due() == 1
    assert mails_send_due() == 0
    [sent] = smtp.taken
    assert (sent["To"], sent["From"]) == ("alice@example.com", "ALT_LAS <gateway@gateway.example>")
    assert (sent["Message-ID"], sent["Auto-Submitted"]) == (f"<{row.id}@gateway.example>", "auto-generated")
    assert "alice" in sent.get_content()
    row.refresh_from_db()
    assert (row.due_at, row.attempts) == (None, 1)
    assert row.sent_at is not None


def test_a_mail_server_that_is_down_loses_nothing(alice, no_smtp, settings, caplog):
    rows = [mail_send(MailKind.PASSWORD_CHANGED, user=alice) for _ in range(3)]
    assert mails_send_due() == 0
    assert [(row.attempts, row.sent_at) for row in Mail.objects.order_by("id")] == [(1, None), (0, None), (0, None)]
    assert timedelta(seconds=20) < due_in(rows[0]) <= outbox.FIRST_DELAY
    assert str(rows[0].id) in caplog.text
    let_it_be_due()
    with running(SmtpServer()) as server:
        settings.EMAIL_HOST, settings.EMAIL_PORT = server.server_address
        assert mails_send_due() == 3
        assert len(server.taken) == 3


def test_the_tries_become_rarer_and_end(alice, no_smtp, caplog):
    row = mail_send(MailKind.PASSWORD_CHANGED, user=alice)
    waits = []
    for _ in range(outbox.MAX_ATTEMPTS - 1):
        mails_send_due()
        waits.append(round(due_in(row) / timedelta(seconds=30)))
        let_it_be_due()
    assert waits[:9] == [1, 2, 4, 8, 16, 32, 64, 120, 120]
    assert sum(waits) * 30 > 20 * 3600
    assert not [record for record in caplog.records if record.levelno == logging.ERROR]
    mails_send_due()
    row.refresh_from_db()
    assert (row.due_at, row.sent_at, row.attempts) == (None, None, outbox.MAX_ATTEMPTS)
    [record] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "given up" in record.message


def test_an_address_that_does_not_exist_is_tried_once_and_holds_up_no_other(alice, bob, smtp):
    smtp.refusals, smtp.refused = {"RCPT": "550 no such user"}, "alice"
    refused, other = (mail_send(MailKind.PASSWORD_CHANGED, user=user) for user in (alice, bob))
    assert mails_send_due() == 1
    refused.refresh_from_db()
    assert (refused.due_at, refused.sent_at) == (None, None)
    assert smtp.taken[0]["To"] == other.address


@pytest.mark.parametrize("refusals", [{"RCPT": "451 later"}, {"MAIL": "451 later"}, {"DATA": "452 later"}])
def test_what_the_server_does_not_take_now_is_sent_later(alice, smtp, refusals):
    smtp.refusals = refusals
    row = mail_send(MailKind.PASSWORD_CHANGED, user=alice)
    assert mails_send_due() == 0
    assert due_in(row) > timedelta(0)
    smtp.refusals = {}
    let_it_be_due()
    assert mails_send_due() == 1


def test_a_mail_that_cannot_be_made_holds_up_no_other(alice, bob):
    mail_send(MailKind.PASSWORD_CHANGED, user=alice)
    broken = mail_send(MailKind.PASSWORD_CHANGED, user=alice)
    Mail.objects.filter(pk=broken.pk).update(kind="unknown", due_at=timezone.now() - timedelta(hours=1))
    assert mails_send_due() == 1
    assert due_in(broken) > timedelta(0)


@pytest.mark.django_db(transaction=True)
def test_two_workers_send_no_mail_twice(smtp, db):
    alice = User.objects.create_user("alice", "alice@example.com", PASSWORD)
    rows = [mail_send(MailKind.PASSWORD_CHANGED, user=alice) for _ in range(10)]
    together = Barrier(3)

    def work(_number):
        together.wait(timeout=30)
        try:
            return mails_send_due()
        finally:
            connection.close()

    with ThreadPoolExecutor(max_workers=together.parties) as executor:
        assert sum(executor.map(work, range(together.parties))) == len(rows)
    assert len({sent["Message-ID"] for sent in smtp.taken}) == len(smtp.taken) == len(rows)


@pytest.mark.django_db(transaction=True)
def test_a_slow_mail_server_holds_one_worker_and_what_comes_meanwhile_goes_out_too(db, monkeypatch):
    alice = User.objects.create_user("alice", "alice@example.com", PASSWORD)
    mail_send(MailKind.PASSWORD_CHANGED, user=alice)
    send, begun, go_on = outbox._send, Event(), Event()

    def slowly(row):
        begun.set()
        assert go_on.wait(30)
        return send(row)

    def work():
        try:
            return mails_send_alone()
        finally:
            connection.close()

    monkeypatch.setattr(outbox, "_send", slowly)
    with ThreadPoolExecutor(1) as executor:
        first = executor.submit(work)
        assert begun.wait(30)
        mail_send(MailKind.PASSWORD_CHANGED, user=alice)
        assert mails_send_alone() == 0
        go_on.set()
        assert first.result(30) == 2
    assert mails_send_alone() == 0
    mail_send(MailKind.PASSWORD_CHANGED, user=alice)
    assert mails_send_alone() == 1


def test_without_redis_mails_go_out_all_the_same(alice, monkeypatch):
    def down(_alias):
        raise RedisConnectionError

    monkeypatch.setattr("gateway.locks.get_redis_connection", down)
    mail_send(MailKind.PASSWORD_CHANGED, user=alice)
    assert mails_send_alone() == 1


def test_a_mail_whose_worker_died_is_sent_by_another_when_its_claim_ends(alice, monkeypatch):
    row = mail_send(MailKind.PASSWORD_CHANGED, user=alice)

    class Died(BaseException):
        pass

    def die(_mail):
        raise Died

    with monkeypatch.context() as patch:
        patch.setattr(outbox, "_send", die)
        with pytest.raises(Died):
            mails_send_due()
    assert mails_send_due() == 0
    assert due_in(row) > timedelta(seconds=django_settings.CELERY_TASK_TIME_LIMIT)
    let_it_be_due()
    assert mails_send_due() == 1


def test_a_run_does_not_keep_a_worker_for_long(alice, monkeypatch):
    for _ in range(3):
        mail_send(MailKind.PASSWORD_CHANGED, user=alice)
    monkeypatch.setattr(outbox, "RUN_SECONDS", -1)
    assert mails_send_due() == 0
    assert Mail.objects.filter(attempts=0).count() == 3


# --- waking a worker -------------------------------------------------------------------------------------------------


@pytest.fixture
def messages(monkeypatch):
    sent = []
    monkeypatch.setattr(outbox.current_app, "send_task", lambda name, **_options: sent.append(name))
    return sent


@pytest.mark.django_db(transaction=True)
def test_a_worker_is_woken_after_the_commit_only(messages, db):
    with transaction.atomic():
        mail_send(MailKind.RESET_PASSWORD, user=None, address="x@example.com")
        assert messages == []
    assert messages == ["accounts.tasks.mails_send"]


@pytest.mark.django_db(transaction=True)
def test_what_is_rolled_back_is_not_sent(messages, db):
    with transaction.atomic():
        mail_send(MailKind.RESET_PASSWORD, user=None, address="x@example.com")
        transaction.set_rollback(True)
    assert (messages, Mail.objects.count()) == ([], 0)


@pytest.mark.django_db(transaction=True)
def test_a_broker_that_is_down_hurts_nobody(monkeypatch, db, caplog):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    app = outbox.current_app._get_current_object()
    with app.connection_for_write(f"redis://127.0.0.1:{port}/0") as broken:
        send = app.send_task
        monkeypatch.setattr(
            outbox.current_app, "send_task", lambda name, **options: send(name, connection=broken, **options)
        )
        mail_send(MailKind.RESET_PASSWORD, user=None, address="x@example.com")
    assert "the sweep will find it" in caplog.text
    assert Mail.objects.get().due_at <= timezone.now()


def test_the_tasks_are_run_by_beat_on_the_control_queue():
    scheduled = {entry["task"] for entry in django_settings.CELERY_BEAT_SCHEDULE.values()}
    for task in (mails_send, delete_settled_mails):
        assert task.name in scheduled
        assert task.app.amqp.router.route({}, task.name)["queue"].name == "control"


def test_the_task_sends_what_is_due(alice):
    mail_send(MailKind.PASSWORD_CHANGED, user=alice)
    mails_send()
    assert [sent.to for sent in mail.outbox] == [[alice.email]]


# --- cleaning up -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 2, 1000])
def test_only_mails_settled_long_ago_are_deleted(alice, batch):
    long_ago = outbox.KEEP + timedelta(minutes=1)
    old, due, young = ([mail_send(MailKind.PASSWORD_CHANGED, user=alice) for _ in range(3)] for _ in range(3))
    Mail.objects.filter(pk__in=[row.pk for row in old + young]).update(due_at=None)
    Mail.objects.filter(pk__in=[row.pk for row in old + due]).update(created_at=F("created_at") - long_ago)
    assert settled_mails_delete(batch=batch) == 3
    assert set(Mail.objects.all()) == {*due, *young}
    delete_settled_mails()
    assert Mail.objects.count() == 6


# --- what is neither kept nor sent -----------------------------------------------------------------------------------


@pytest.mark.security
@pytest.mark.security_authentication
def test_tokens_are_neither_kept_nor_logged(alice, smtp, caplog):
    caplog.set_level(logging.DEBUG)
    smtp.refusals = {"DATA": "452 later"}
    mail_send(MailKind.RESET_PASSWORD, user=None, address=alice.email)
    mails_send_due()
    smtp.refusals = {}
    let_it_be_due()
    caplog.set_level(logging.DEBUG)
    mails_send_due()
    token = next(line for line in smtp.taken[0].get_content().splitlines() if line.startswith(alice.pk.hex))
    assert user_of_reset_token(token) == alice
    assert token not in caplog.text
    assert token not in str(list(Mail.objects.values()))


def test_a_mail_that_became_pointless_is_not_sent(alice, bob):
    rows = [mail_send(MailKind.VERIFY_EMAIL, user=user) for user in (alice, bob)]
    User.objects.filter(pk=alice.pk).update(email_verified_at=timezone.now())
    User.objects.filter(pk=bob.pk).update(email="other@example.com")
    assert mails_send_due() == 0
    for row in rows:
        row.refresh_from_db()
        assert (row.due_at, row.sent_at) == (None, None)


def test_the_mails_of_a_user_who_is_deleted_go_too(alice):
    mail_send(MailKind.PASSWORD_CHANGED, user=alice)
    alice.delete()
    assert mails_send_due() == 0
