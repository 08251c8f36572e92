"""How alarms are told: by mail and to the rooms above, with what they tell of or not at all."""

from datetime import timedelta

import pytest
from django.core import mail
from django.utils import timezone
from django.utils.translation import get_language

from accounts.models import User
from accounts.services.mail import mails_send_due
from conftest import PASSWORD
from integrations.alarms import delivery, models
from integrations.alarms.delivery import alarm_news, events_publish_again
from integrations.alarms.models import Alarm, AlarmEvent, AlarmRule, Condition
from integrations.alarms.services import alarm_acknowledge, rule_change
from integrations.models import ServiceInstance
from integrations.tasks import evaluate_alarms
from integrations.tests.alarming import fall_ill, firing, look_at, told

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("_no_rules")]


def test_the_mail_goes_out_to_each_in_their_language(admin, runner, rule, monkeypatch):
    User.objects.create_superuser("yonetici", "yonetici@example.com", PASSWORD, language="tr")
    monkeypatch.setitem(models.SENTENCES, Condition.INSTANCE_DOWN, LanguageNow())
    alarm = firing(runner)
    assert mails_send_due() == 2
    assert [sent.subject for sent in mail.outbox if sent.to == ["admin@example.com"]] == [
        "Alarm (critical): an instance is down: runner http://runner"
    ]
    for sent, language in zip(mail.outbox, ("en", "tr"), strict=True):
        assert f"\n{language}\n" in f"\n{sent.body}"
        assert f"/admin/integrations/alarm/{alarm.id}/change/" in sent.body


class LanguageNow:
    def __str__(self):
        return str(get_language())


def test_who_is_deactivated_before_the_mail_goes_out_gets_none(admin, runner, rule):
    firing(runner)
    User.objects.update(is_active=False)
    assert mails_send_due() == 0
    assert mail.outbox == []


@pytest.fixture
def listener():
    heard = []

    def listen(news, **_kwargs):
        heard.append(news)
        if news.event in listen.fails_at:
            raise RuntimeError("no")

    listen.fails_at = ()
    listen.heard = heard
    alarm_news.connect(listen)
    yield listen
    alarm_news.disconnect(listen)


def test_the_rooms_above_get_news_after_the_commit(admin, runner, rule, listener, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        alarm = firing(runner)
    [news] = listener.heard
    assert (news.event, news.alarm_id, news.severity, news.is_notice) == ("fired", alarm.id, "critical", True)
    events_publish_again()
    assert len(listener.heard) == 1


def test_what_was_not_published_because_somebody_died_or_failed_is_published_again(
    admin, runner, rule, listener, monkeypatch
):
    firing(runner)  # committed, and then the process died
    events_publish_again()
    assert listener.heard == []  # its own process may be at it
    monkeypatch.setattr(delivery, "GRACE", timedelta(0))
    listener.fails_at = ("fired",)
    events_publish_again()
    listener.fails_at = ()
    events_publish_again()
    events_publish_again()
    assert [news.event for news in listener.heard] == ["fired", "fired"]


def test_one_that_a_listener_cannot_take_holds_up_no_other_and_is_given_up_in_the_end(
    admin, runner, rule, listener, monkeypatch, caplog
):
    monkeypatch.setattr(delivery, "GRACE", timedelta(0))
    listener.fails_at = ("fired",)
    alarm_acknowledge(actor=admin, alarm=firing(runner), reason="on my way")
    AlarmEvent.objects.create(alarm=Alarm.objects.get(), event="of a later release")

    def heard():
        listener.heard.clear()
        events_publish_again()
        return [news.event for news in listener.heard]

    assert [heard(), heard()] == [["fired", "acknowledged"], ["fired"]]
    with monkeypatch.context() as patch:
        patch.setattr(delivery, "PUBLISH_SECONDS", -1)
        assert heard() == []
    AlarmEvent.objects.update(at=timezone.now() - delivery.GIVE_UP - timedelta(seconds=1))
    assert [heard(), heard()] == [["fired"], []]
    assert caplog.text.count("is given up") == 2


def test_one_that_cannot_end_holds_up_nothing(admin, runner, listener, monkeypatch):
    rule = AlarmRule.objects.create(condition=Condition.INSTANCE_DOWN, wait=0)
    fall_ill(runner)
    ServiceInstance.objects.create(kind="runner", base_url="http://other", source="admin", is_healthy=False)
    look_at(0)
    rule_change(actor=admin, rule=rule, changes={"is_enabled": False})
    monkeypatch.setattr(delivery, "GRACE", timedelta(0))
    real, failures = delivery.mail_send, [RuntimeError("no")]

    def fails_once(*args, **kwargs):
        if failures:
            raise failures.pop()
        real(*args, **kwargs)

    monkeypatch.setattr(delivery, "mail_send", fails_once)
    for left in (["firing", "resolved"], ["resolved", "resolved"]):
        evaluate_alarms()
        assert sorted(Alarm.objects.values_list("state", flat=True)) == left
    assert [news.event for news in listener.heard] == ["fired", "fired", "resolved", "resolved"]


def test_what_tells_of_it_is_written_with_it_or_not_at_all(admin, runner, rule, monkeypatch):
    fall_ill(runner)
    look_at(0)

    def died(*_args, **_kwargs):
        raise RuntimeError("died")

    with monkeypatch.context() as patch:
        patch.setattr(delivery, "mail_send", died)
        assert look_at(60) == ["pending"]
    assert not AlarmEvent.objects.exists()
    assert look_at(75) == ["firing"]
    assert told() == ["alarm_firing"]
