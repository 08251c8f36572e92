"""Old rows go, in batches; what is still good or of interest stays."""

from datetime import timedelta

import pytest
from django.contrib.sessions.models import Session
from django.utils import timezone
from django_otp.plugins.otp_totp.models import TOTPDevice

from accounts.models import ApiKey
from accounts.second_factor import PENDING_FOR, begin
from accounts.services.api_keys import KEPT_DEAD, dead_api_keys_delete
from accounts.services.sessions import expired_sessions_delete
from accounts.tasks import delete_dead_api_keys, delete_old_pending_second_factors
from gateway.batches import delete_in_batches

pytestmark = pytest.mark.django_db


def key_of(user, name, *, expires_in=timedelta(days=1), revoked_before=None):
    now = timezone.now()
    revoked_at = now - revoked_before if revoked_before is not None else None
    return ApiKey.objects.create(
        user=user, name=name, key_sha256=name, scopes=[], expires_at=now + expires_in, revoked_at=revoked_at
    )


@pytest.mark.parametrize("batch", [1, 2, 1000])
def test_api_keys_stay_until_they_were_dead_for_long(alice, batch):
    key_of(alice, "good")
    key_of(alice, "just expired", expires_in=-timedelta(seconds=1))
    key_of(alice, "just revoked", revoked_before=timedelta(0))
    key_of(alice, "long expired", expires_in=-KEPT_DEAD - timedelta(seconds=1))
    key_of(alice, "long revoked", revoked_before=KEPT_DEAD + timedelta(seconds=1))
    assert dead_api_keys_delete(batch=batch) == 2
    assert set(ApiKey.objects.values_list("name", flat=True)) == {"good", "just expired", "just revoked"}


def test_the_task_deletes_them(alice):
    key_of(alice, "long expired", expires_in=-KEPT_DEAD - timedelta(seconds=1))
    delete_dead_api_keys()
    assert not ApiKey.objects.exists()


def test_secrets_that_were_not_confirmed_in_time_go(alice, bob):
    for user in (alice, bob):
        begin(user)
    confirmed = TOTPDevice.objects.create(user=alice, name="app", confirmed=True)
    TOTPDevice.objects.exclude(user=bob).update(created_at=timezone.now() - PENDING_FOR - timedelta(hours=1, seconds=1))
    delete_old_pending_second_factors()
    assert {device.user for device in TOTPDevice.objects.filter(confirmed=False)} == {bob}
    assert TOTPDevice.objects.filter(confirmed=True).get() == confirmed


def test_expired_sessions_of_the_admin_pages_go_too():
    now = timezone.now()
    for name, ends_in in (("old", -1), ("good", 60)):
        Session.objects.create(session_key=name, session_data="", expire_date=now + timedelta(seconds=ends_in))
    assert expired_sessions_delete() == 1
    assert Session.objects.get().session_key == "good"


def test_a_row_that_is_wanted_again_meanwhile_stays(alice, monkeypatch):
    key_of(alice, "old")
    rows = ApiKey.objects.filter(name="old")
    listed = type(rows).values_list

    def renamed_meanwhile(self, *fields, **options):
        ids = list(listed(self, *fields, **options))
        ApiKey.objects.update(name="new")
        return ids

    monkeypatch.setattr(type(rows), "values_list", renamed_meanwhile)
    delete_in_batches(rows)
    assert ApiKey.objects.get().name == "new"


def test_rows_go_in_batches_that_count_as_rows_not_as_what_depends_on_them(alice, bob):
    key_of(alice, "hers")
    keys = ApiKey.objects.all()
    for name in "abc":
        key_of(bob, name)
    assert delete_in_batches(type(alice).objects.filter(pk__in=[alice.pk, bob.pk]), batch=1) == 2
    assert not keys.exists()
