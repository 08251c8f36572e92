"""The rules of how long what is kept: their bounds, their pages, and who changes them."""

import pytest
from django.core.exceptions import ValidationError
from django.utils import timezone

from accounts.models import AuditEntry
from accounts.tests.people import signed_in, staff
from commands.models import Kept, RetentionRule
from commands.retention_rules import retention_change
from commands.states import TERMINAL

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("counted")]

PAGES = "/admin/commands/retentionrule/"


class TestRules:
    def rule(self, what="events", status="completed"):
        return RetentionRule.objects.get(what=what, status=status)

    def test_there_is_one_for_everything(self):
        assert set(RetentionRule.objects.values_list("what", "status")) == {
            (what, status) for what in Kept.values for status in TERMINAL
        }

    def test_a_change_is_recorded_and_everything_is_looked_at_anew(self, admin):
        RetentionRule.objects.update(done_at=timezone.now())
        rule = retention_change(actor=admin, rule=self.rule(), keep_days=30, reason="the disk is full")
        assert (rule.keep_days, rule.done_at) == (30, None)
        entry = AuditEntry.objects.get(action="retention_changed")
        assert (entry.changes, entry.reason, entry.actor_name) == (
            {"keep_days": [90, 30]}, "the disk is full", "admin",
        )  # fmt: skip
        retention_change(actor=admin, rule=rule, keep_days=30)
        assert AuditEntry.objects.filter(action="retention_changed").count() == 1

    @pytest.mark.parametrize("days", [0, -1, 36_501])
    def test_days_have_bounds(self, admin, days):
        with pytest.raises(ValidationError) as error:
            retention_change(actor=admin, rule=self.rule("commands"), keep_days=days)
        assert error.value.message_dict.keys() == {"keep_days"}

    def test_nothing_outlives_its_command(self, admin):
        for what, days in (("events", 366), ("files", 366), ("commands", 89)):
            with pytest.raises(ValidationError, match="would be kept for"):
                retention_change(actor=admin, rule=self.rule(what), keep_days=days)
        retention_change(actor=admin, rule=self.rule("events"), keep_days=365)
        retention_change(actor=admin, rule=self.rule("commands"), keep_days=None)
        retention_change(actor=admin, rule=self.rule("events"), keep_days=36_500)
        retention_change(actor=admin, rule=self.rule("events", "failed"), keep_days=180)

    def test_administrators_change_it_with_a_reason(self, admin):
        client, rule = signed_in(admin), self.rule()
        assert "days" in client.get(PAGES).content.decode()
        page = f"{PAGES}{rule.pk}/change/"
        client.post(page, {"keep_days": "30", "reason": "full", "status": "failed", "deleted": "7"})
        rule.refresh_from_db()
        assert (rule.keep_days, rule.status, rule.deleted) == (30, "completed", 0)
        assert AuditEntry.objects.get(action="retention_changed").reason == "full"
        answer = client.post(page, {"keep_days": "999"})
        assert "would be kept for 999 days" in answer.content.decode()
        client.post(page, {"keep_days": "", "reason": "as long as the command"})
        rule.refresh_from_db()
        assert rule.keep_days is None

    def test_others_do_not(self, alice, bob, admin):
        rule = self.rule()
        onlooker, stranger = staff("commands.view_retentionrule"), signed_in(alice)
        for client in (onlooker, stranger, signed_in(bob)):
            client.post(f"{PAGES}{rule.pk}/change/", {"keep_days": "1"})
            client.post(f"{PAGES}{rule.pk}/delete/", {"confirmed": "yes", "reason": "x"})
            client.post(f"{PAGES}add/", {"what": "events", "status": "queued", "keep_days": "1"})
        for client in (onlooker, signed_in(admin)):
            assert client.get(f"{PAGES}{rule.pk}/change/").status_code == 200
            assert client.get(f"{PAGES}add/").status_code == 403
            assert client.get(f"{PAGES}{rule.pk}/delete/").status_code == 403
        assert stranger.get(PAGES).status_code in (302, 403)
        rule.refresh_from_db()
        assert rule.keep_days == 90
        assert RetentionRule.objects.count() == 12
