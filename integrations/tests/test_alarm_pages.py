"""Alarms and their rules as administrators use them: in the API and in the admin pages."""

from datetime import timedelta

import pytest
from django.contrib.messages import get_messages
from django.utils import timezone

from accounts.models import AuditEntry
from accounts.tests.people import client_with_key, person_with, signed_in, staff
from gateway.api.errors import ErrorCode
from gateway.ids import new_id
from gateway.tests.expect import fields_of, problem_of
from integrations.alarms.models import Alarm, AlarmRule

pytestmark = pytest.mark.django_db

ALARMS, PAGES, RULES = "/api/v2/alarms", "/admin/integrations/alarm/", "/admin/integrations/alarmrule/"
WHY = {"reason": "new disks"}
SURE = {"confirmed": "yes", **WHY}
FIELDS = {
    "name": "Slow runners", "condition": "latency", "kind": "runner", "threshold": 500, "percentile": 95,
    "severity": "info", "wait": 10, "resolve_wait": 20, "is_enabled": "on", "reason": "users complain",
}  # fmt: skip


def alarm_of(subject="runner", state="firing", **fields):
    now = timezone.now()
    times = {"pending": {}, "firing": {"fired_at": now}, "resolved": {"fired_at": now, "resolved_at": now}}[state]
    fields = {"condition": "service_down", "severity": "warning", **times, **fields}
    return Alarm.objects.create(subject=subject, state=state, since=now, **fields)


# --- API ------------------------------------------------------------------------------------------------------------


def test_alarms_are_listed_and_filtered_the_newest_first(api, admin, django_assert_num_queries):
    alarm_of("archive", "resolved", severity="critical")
    alarm_of("runner", "firing", severity="critical")
    alarm_of("segmentation", "pending")
    client = api(admin)
    client.get(ALARMS)

    def subjects(**query):
        return [row["subject"] for row in client.get(ALARMS, query).json()["results"]]

    with django_assert_num_queries(1):
        assert subjects() == ["segmentation", "runner", "archive"]
    assert subjects(severity="critical") == ["runner", "archive"]
    assert subjects(severity="critical", state="firing") == ["runner"]
    page = client.get(ALARMS, {"limit": 2}).json()
    assert client.get(page["next"]).json()["results"][0]["subject"] == "archive"
    row = page["results"][1]
    assert (row["state"], row["condition"], row["text"]) == (
        "firing", "service_down", "No instance of the service runner is healthy.",
    )  # fmt: skip
    assert fields_of(client.get(ALARMS, {"state": "x", "severity": "x"})) == {
        "state": "invalid_choice",
        "severity": "invalid_choice",
    }


def test_an_alarm_is_acknowledged_silenced_and_tells_its_story(api, admin):
    alarm, client = alarm_of(), api(admin)
    path = f"{ALARMS}/{alarm.id}"
    body = client.post(f"{path}/acknowledge", WHY).json()
    assert body["acknowledged_by"] == "admin"
    assert client.post(f"{path}/acknowledge", {"reason": "me too"}).json()["acknowledged_at"] == body["acknowledged_at"]
    until = timezone.now() + timedelta(days=6)
    assert client.post(f"{path}/silence", {**WHY, "until": until}).status_code == 200
    answer = client.delete(f"{path}/silence")
    assert (answer.status_code, answer.content) == (204, b"")
    assert client.delete(f"{path}/silence").status_code == 204
    body = client.get(path).json()
    assert body["silenced_until"] is None
    assert [(event["event"], event["actor_name"], event["reason"]) for event in body["events"]] == [
        ("acknowledged", "admin", "new disks"),
        ("silenced", "admin", "new disks"),
        ("silence_ended", "admin", ""),
    ]
    acts = AuditEntry.objects.filter(target_id=str(alarm.id)).order_by("id").values_list("action", flat=True)
    assert list(acts) == ["alarm_acknowledged", "alarm_silenced", "alarm_silence_ended"]


def test_bad_input_names_the_field_and_changes_nothing(api, admin):
    alarm, client = alarm_of(), api(admin)
    path, now = f"{ALARMS}/{alarm.id}", timezone.now()
    for body, fields in (
        ({}, {"reason": "required"}),
        ({"reason": ""}, {"reason": "blank"}),
        ({"reason": "x" * 201}, {"reason": "max_length"}),
        ({"reason": "\0"}, {"reason": "null_characters_not_allowed"}),
        ({"reason": 7}, {"reason": "invalid"}),
        ({**WHY, "until": now}, {"until": "unknown_field"}),
    ):
        assert fields_of(client.post(f"{path}/acknowledge", body)) == fields
    for until, code in (
        (None, "null"),
        ("soon", "invalid"),
        (7, "invalid"),
        (now - timedelta(seconds=1), "out_of_bounds"),
        (now + timedelta(days=7, minutes=1), "out_of_bounds"),
        ("9999-12-31T23:59:59-23:59", "overflow"),
    ):
        assert fields_of(client.post(f"{path}/silence", {**WHY, "until": until})).keys() == {"until"}, code
    assert fields_of(client.post(f"{path}/silence", {})) == {"reason": "required", "until": "required"}
    before = Alarm.objects.filter(id=alarm.id).values().get()
    assert (before["acknowledged_at"], before["silenced_until"]) == (None, None)
    assert not AuditEntry.objects.filter(target_id=str(alarm.id)).exists()


def test_what_is_over_or_not_there_is_not_acted_on(api, admin):
    client, over = api(admin), alarm_of(state="resolved")
    until = timezone.now() + timedelta(hours=1)
    for alarm_id, code in ((over.id, ErrorCode.ALARM_IS_OVER), (new_id(), ErrorCode.NOT_FOUND)):
        problem_of(client.post(f"{ALARMS}/{alarm_id}/acknowledge", WHY), code)
        problem_of(client.post(f"{ALARMS}/{alarm_id}/silence", {**WHY, "until": until}), code)
        problem_of(client.delete(f"{ALARMS}/{alarm_id}/silence"), code)


def test_only_who_may_sees_and_steers_alarms(api, alice):
    path = f"{ALARMS}/{alarm_of().id}"
    doors = (
        ("get", ALARMS, "view"),
        ("get", path, "view"),
        ("post", f"{path}/acknowledge", "acknowledge"),
        ("post", f"{path}/silence", "silence"),
        ("delete", f"{path}/silence", "silence"),
    )
    service = client_with_key(person_with("machine", "service"), "integrations.view_serviceinstance")
    viewer = api(person_with("viewer", "viewer"))
    for method, door, act in doors:
        assert getattr(api(None), method)(door).status_code == 401
        for client in (api(alice), viewer, service):
            answer = getattr(client, method)(door)
            assert (answer.status_code, answer.json()["permission"]) == (403, f"integrations.{act}_alarm")


# --- admin pages ----------------------------------------------------------------------------------------------------


def test_a_rule_is_made_changed_and_deleted_with_a_reason(admin):
    client = signed_in(admin)
    client.post(f"{RULES}add/", FIELDS)
    rule = AlarmRule.objects.get(name="Slow runners")
    assert (rule.condition, rule.threshold, rule.percentile, rule.wait) == ("latency", 500, 95, 10)
    page = f"{RULES}{rule.id}/change/"
    client.post(page, {**FIELDS, "threshold": 900, "condition": "queue_length", "reason": "too loud"})
    rule.refresh_from_db()
    assert (rule.condition, rule.threshold) == ("latency", 900)
    answer = client.post(page, {**FIELDS, "threshold": 0, "percentile": "", "kind": "kitchen"})
    errors = answer.context["adminform"].form.errors
    assert errors.keys() == {"threshold", "percentile", "kind"}
    assert "from 1 to 600000 milliseconds" in answer.content.decode()
    client.post(f"{RULES}{rule.id}/delete/", SURE)
    assert not AlarmRule.objects.filter(pk=rule.pk).exists()
    acts = AuditEntry.objects.filter(target_id=str(rule.id)).order_by("id").values_list("action", "reason")
    assert list(acts) == [
        ("alarm_rule_created", "users complain"),
        ("alarm_rule_changed", "too loud"),
        ("alarm_rule_deleted", "new disks"),
    ]
    assert AuditEntry.objects.get(action="alarm_rule_changed").changes == {"threshold": [500, 900]}


def test_alarms_are_acknowledged_and_silenced_there(admin):
    client, alarms = signed_in(admin), [alarm_of(), alarm_of("archive"), alarm_of(state="resolved")]
    page = f"{PAGES}{alarms[0].id}"
    assert client.post(f"{page}/acknowledge/", SURE)["Location"] == f"{page}/change/"
    chosen = {"_selected_action": [str(alarm.id) for alarm in alarms], **SURE}
    answer = client.post(PAGES, {"action": "silence_chosen", "hours": "4", **chosen})
    assert "The alarm is over." in " ".join(str(message) for message in get_messages(answer.wsgi_request))
    for alarm in alarms:
        alarm.refresh_from_db()
    assert [alarm.acknowledged_by for alarm in alarms] == ["admin", "", ""]
    assert [alarm.silenced_until is not None for alarm in alarms] == [True, True, False]
    assert "new disks" in client.get(f"{page}/change/").content.decode()
    client.post(f"{page}/silence-end/", SURE)
    alarms[0].refresh_from_db()
    assert alarms[0].silenced_until is None
    client.post(PAGES, {"action": "silence_chosen", "hours": "9999", **chosen})
    assert AuditEntry.objects.filter(action="alarm_silenced").count() == 2
    assert "alarms firing" in client.get("/admin/").content.decode()


def test_there_too_only_who_may(alice):
    alarm, rule = alarm_of(), AlarmRule.objects.create(condition="service_down")
    onlooker = staff("integrations.view_alarm", "integrations.view_alarmrule")
    for client in (onlooker, signed_in(alice)):
        client.post(f"{PAGES}{alarm.id}/acknowledge/", SURE)
        client.post(PAGES, {"action": "silence_chosen", "hours": "4", "_selected_action": [str(alarm.id)], **SURE})
        client.post(f"{RULES}{rule.id}/change/", {**FIELDS, "condition": "service_down"})
        client.post(f"{RULES}{rule.id}/delete/", SURE)
        client.post(f"{RULES}add/", FIELDS)
    assert onlooker.get(f"{PAGES}{alarm.id}/change/").status_code == 200
    alarm.refresh_from_db()
    assert (alarm.acknowledged_at, alarm.silenced_until) == (None, None)
    assert AlarmRule.objects.get(pk=rule.pk).name == ""
    assert not AlarmRule.objects.filter(name="Slow runners").exists()
