"""Commands in the admin pages: acted upon by whom that is allowed, found, and told as a story."""

import re
from datetime import timedelta

import pytest
from django.contrib.messages import get_messages
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.audit import Action
from accounts.models import AuditEntry
from accounts.tests import people
from commands.admin.story import EVENTS_PER_PAGE, OUTPUT_SHOWN, duration_text
from commands.models import Command, CommandEvent, CommandResult, Mode, Outcome, Priority, StageRun
from commands.services import command_submit
from commands.states import Stage, Status
from integrations.models import ServiceInstance
from tests.rows import ended_command

pytestmark = pytest.mark.django_db

COMMANDS = "/admin/commands/command/"
WHY = "as the ticket says"
ACTS = ("cancel", "retry", "requeue")
RECORDED = {"cancel": Action.COMMAND_CANCELLED, "retry": Action.COMMAND_RETRIED, "requeue": Action.COMMAND_REQUEUED}


def staff(*permissions, name="clerk"):
    """A browser of somebody who may see commands, and do just this to them."""
    return people.staff("commands.view_command", *permissions, name=name)


def page_of(command, tail="change/"):
    return f"{COMMANDS}{command.pk}/{tail}"


def running(user, **fields):
    """A command that a runner has, or not; the next look is due in a minute."""
    later = timezone.now() + timedelta(minutes=1)
    values = {"status": Status.RUNNING, "stage": Stage.RUNNER, "due_at": later, "last_seq": 3}
    return Command.objects.create(user=user, text="echo Merhaba", **(values | fields))


def fit_for(act, user):
    """A command to which this can be done."""
    return ended_command(user) if act == "retry" else running(user)


def said(answer):
    return " ".join(str(message) for message in get_messages(answer.wsgi_request))


def listed(client, **query):
    return {row.pk for row in client.get(COMMANDS, query).context["cl"].result_list}


# --- acts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("where", ["page", "list"])
def test_each_act_asks_first_and_is_on_record_with_its_reason(alice, act, where):
    client, command = staff(f"commands.{act}_command"), fit_for(act, alice)
    url = page_of(command, f"{act}/") if where == "page" else COMMANDS
    form = {} if where == "page" else {"action": act, "_selected_action": [command.pk]}
    question = client.post(url, form) if where == "list" else client.get(url)
    assert "echo Merhaba" in question.content.decode()
    assert not AuditEntry.objects.filter(action=RECORDED[act]).exists()
    without_reason = client.post(url, {**form, "confirmed": "yes"})
    assert without_reason.context["form"].errors["reason"]
    answer = client.post(url, {**form, "confirmed": "yes", "reason": WHY})
    assert (answer.status_code, answer["Location"]) == (302, page_of(command) if where == "page" else COMMANDS)
    assert said(answer) == "Done."
    entry = AuditEntry.objects.get(action=RECORDED[act])
    assert (entry.actor_name, entry.target_id, entry.reason) == ("clerk", str(command.pk), WHY)


@pytest.mark.security
@pytest.mark.security_access
@pytest.mark.parametrize("act", ACTS)
def test_nobody_does_what_is_not_allowed(alice, act):
    """To see commands and to do the other two is not enough; nor is the act, without seeing commands."""
    command = fit_for(act, alice)
    others = [f"commands.{other}_command" for other in ACTS if other != act]
    clients = [staff(*others), people.staff(f"commands.{act}_command", name="blind")]
    for client in clients:
        assert client.get(page_of(command, f"{act}/")).status_code == 403
        assert client.post(page_of(command, f"{act}/"), {"confirmed": "yes", "reason": WHY}).status_code == 403
        client.post(COMMANDS, {"action": act, "_selected_action": [command.pk], "confirmed": "yes", "reason": WHY})
    assert f"/{act}/" not in clients[0].get(page_of(command)).content.decode()
    assert not AuditEntry.objects.filter(action=RECORDED[act]).exists()
    assert list(Command.objects.all()) == [command]
    before = command.status, command.last_seq
    command.refresh_from_db()
    assert (command.status, command.last_seq) == before


def do(client, act, command, **given):
    return client.post(page_of(command, f"{act}/"), {"confirmed": "yes", "reason": WHY, **given})


def test_a_cancelled_command_says_by_whom_and_why(admin_client, alice):
    command = running(alice)
    do(admin_client, "cancel", command)
    command.refresh_from_db()
    assert command.status == Status.CANCELLING
    assert command.events.get(event="cancelling").data == {"reason": WHY, "by": "admin"}
    page = admin_client.get(page_of(command)).content.decode()
    assert f"Reason: {WHY}" in page
    assert "By admin." in page


def test_what_has_ended_is_refused_and_the_others_go_on(admin_client, alice):
    ended, going = ended_command(alice, text="the first"), running(alice)
    for act, why in (("cancel", "has already ended"), ("requeue", "has already ended")):
        form = {"action": act, "_selected_action": [ended.pk, going.pk], "confirmed": "yes", "reason": WHY}
        answer = admin_client.post(COMMANDS, form)
        assert "the first: " in said(answer)
        assert why in said(answer)
        assert "Done." in said(answer)
        assert AuditEntry.objects.get(action=RECORDED[act]).target_id == str(going.pk)


def test_a_retry_belongs_to_the_same_user_and_both_lead_to_each_other(admin_client, alice):
    command = ended_command(alice)
    assert "From the start" in admin_client.get(page_of(command, "retry/")).content.decode()
    do(admin_client, "retry", command, from_start="on")
    retry = Command.objects.get(retry_of=command)
    assert retry.user == alice
    assert f'href="{page_of(retry)}"' in admin_client.get(page_of(command)).content.decode()
    assert f'href="{page_of(command)}"' in admin_client.get(page_of(retry)).content.decode()
    do(admin_client, "retry", going := running(alice))
    assert not going.retries.exists()


@pytest.mark.parametrize("is_held", [True, False])
def test_a_requeued_command_is_due_now_and_stays_with_a_worker_that_holds_it(admin_client, alice, is_held):
    until = timezone.now() + timedelta(seconds=10)
    lease = {"lease_owner": "host:1:x", "lease_expires_at": until} if is_held else {}
    command = running(alice, **lease)
    do(admin_client, "requeue", command)
    command.refresh_from_db()
    assert command.due_at <= timezone.now()
    assert (command.lease_owner, command.lease_expires_at) == (("host:1:x", until) if is_held else ("", None))
    event = command.events.get()
    assert (event.event, event.seq, event.status) == ("requeued", 4, "running")
    assert event.data == {"reason": WHY, "by": "admin"}


# --- found ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def some(alice, bob):
    """One command of each kind that one may look for."""
    return {
        "done": ended_command(alice, text="Bir rapor yaz: İstanbul"),
        "failed": ended_command(bob, text="calc 6*7"),
        "chaos": running(alice, mode=Mode.CHAOS),
        "high": running(alice, priority=Priority.HIGH, stage=Stage.ARCHIVE, status=Status.ARCHIVING),
        "queued": running(alice, status=Status.QUEUED, stage=None),
    }


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ({"finished": "yes"}, "done failed"),
        ({"finished": "no"}, "chaos high queued"),
        ({"status__exact": "failed"}, "failed"),
        ({"status__exact": "queued"}, "queued"),
        ({"status__exact": "completed"}, "done"),
        ({"stage__exact": "runner"}, "chaos"),
        ({"stage__exact": "archive"}, "high"),
        ({"error_code": "runner_timeout"}, "failed"),
        ({"error_code": "runner_error"}, ""),
        ({"error_code": "nonsense"}, "done failed chaos high queued"),
        ({"mode__exact": "chaos"}, "chaos"),
        ({"priority__exact": "high"}, "high"),
        ({"user": "bob"}, "failed"),
        ({"user": "nobody"}, ""),
        ({"trouble": ""}, "done failed chaos high queued"),
        ({"q": "RAPOR"}, "done"),
        ({"q": "rapor yaz"}, "done"),
        ({"q": "istanbul"}, "done"),
        ({"q": "Merhaba"}, "chaos high queued"),
        ({"q": "bob"}, "failed"),
        ({"q": "BOB@example.com"}, "failed"),
        ({"q": "ri"}, ""),
        ({"q": " "}, "done failed chaos high queued"),
    ],
)
def test_commands_are_found(admin_client, some, query, names):
    Command.objects.filter(pk=some["failed"].pk).update(status=Status.FAILED, error_code="runner_timeout")
    assert listed(admin_client, **query) == {some[name].pk for name in names.split()}


def test_what_is_in_trouble_is_found(admin_client, alice):
    fine, busy, failing, silent, again, overdue = (running(alice) for _ in range(6))

    def tried(command, attempt=1, **fields):
        StageRun.objects.create(command=command, stage=command.stage, attempt=attempt, **fields)

    tried(fine, outcome=Outcome.SUCCEEDED)
    tried(busy, outcome=Outcome.FAILED, error_code="runner_busy")
    tried(failing, outcome=Outcome.FAILED, error_code="runner_timeout", finished_at=timezone.now())
    tried(silent, remote_id="x", unanswered_since=timezone.now())
    tried(again, outcome=Outcome.FAILED, error_code="runner_timeout", finished_at=timezone.now())
    tried(again, attempt=2, remote_id="x")
    Command.objects.filter(pk=overdue.pk).update(due_at=timezone.now() - timedelta(minutes=6))
    ended = ended_command(alice)
    ended.stage_runs.update(outcome=Outcome.FAILED)
    assert listed(admin_client, trouble="failing") == {failing.pk, silent.pk}
    assert listed(admin_client, trouble="overdue") == {overdue.pk}


# --- told -----------------------------------------------------------------------------------------------------------


def texts_of(client, command, **query):
    """What the rows of the table say, in words."""
    page = client.get(page_of(command), query).content.decode()
    table = page[page.index('<table class="timeline') : page.index("</table>", page.index('<table class="timeline'))]
    rows = re.findall(r"<tr[^>]*>(.*?)</tr>", table, re.DOTALL)[1:]
    return [" ".join(re.sub(r"<[^>]+>", " ", row).split()) for row in rows]


def test_what_happened_is_told_in_order_in_words(admin_client, alice):
    instance = ServiceInstance.objects.create(
        kind="runner", base_url="http://runner", source="admin", is_healthy=True, checked_at=timezone.now()
    )
    command, start = running(alice), timezone.now() - timedelta(minutes=10)
    Command.objects.filter(pk=command.pk).update(created_at=start)
    file = ended_command(alice).files[0]
    happened = [
        (1, "queued", {}, 0),
        (2, "running", {"file": {"id": str(file.pk), "name": "a.alt"}}, 5),
        (3, "retrying", {"stage": "runner", "code": "runner_timeout", "next_attempt_at": "2026-11-24T14:05:10Z"}, 80),
        (4, "progress", {}, 200),
        (5, "something new", {}, 300),
    ]
    CommandEvent.objects.bulk_create(
        CommandEvent(command=command, seq=seq, event=event, status="running", progress=46, data=data)
        for seq, event, data, _at in happened
    )
    for seq, _event, _data, after in happened:
        command.events.filter(seq=seq).update(at=start + timedelta(seconds=after))
    run = StageRun.objects.create(
        command=command,
        stage=Stage.RUNNER,
        attempt=1,
        instance="http://runner",
        remote_id="task-7",
        finished_at=start + timedelta(seconds=79),
        outcome=Outcome.FAILED,
        error_code="runner_timeout",
        error_cause="no answer in 10 s",
    )
    StageRun.objects.filter(pk=run.pk).update(started_at=start + timedelta(seconds=6.5))
    Command.objects.filter(pk=command.pk).update(last_seq=5)
    rows = texts_of(admin_client, command)
    for row, parts in zip(
        rows,
        [
            ["+0 ms", "1. is now"],
            ["+5.0 s", "2. is now", "a.alt"],
            ["+6.5 s", "runner, try 1", "failed", "1 min 12 s", "http://runner", "did not answer in time", "task-7"],
            ["+1 min 20 s", "3. is to be tried again", "did not answer in time", "Next try at 2026-11-24T14:05:10Z."],
            ["+3 min 20 s", "4. progress: 46 %"],
            ["+5 min 0 s", "5. something new"],
        ],
        strict=True,
    ):
        assert [part for part in parts if part not in row] == [], row
    page = admin_client.get(page_of(command)).content.decode()
    assert f'href="/admin/integrations/serviceinstance/{instance.pk}/change/"' in page
    assert f'href="/admin/files/storedfile/{file.pk}/change/"' in page
    assert "Try 2 of the runner stage is due at" in page  # what it waits for


def many_events(command, number):
    CommandEvent.objects.bulk_create(
        CommandEvent(command=command, seq=seq, event="progress", status="running", progress=46)
        for seq in range(1, number + 1)
    )
    Command.objects.filter(pk=command.pk).update(last_seq=number)


def test_ten_thousand_events_come_in_pages(admin_client, alice):
    command, number = running(alice), 100 * EVENTS_PER_PAGE - 1
    many_events(command, number)
    last = texts_of(admin_client, command)
    assert len(last) == EVENTS_PER_PAGE - 1
    assert f"{number}. progress" in last[-1]
    first = texts_of(admin_client, command, events=1)
    assert [row.split(". progress")[0].split()[-1] for row in first] == [str(n) for n in range(1, EVENTS_PER_PAGE + 1)]
    assert last == texts_of(admin_client, command, events="1000000") == texts_of(admin_client, command, events="x")
    assert first == texts_of(admin_client, command, events="0")
    page = admin_client.get(page_of(command), {"events": 50}).content.decode()
    assert "Page 50 of 100" in page
    assert re.findall(r'href="\?events=(\d+)"', page) == ["1", "49", "51", "100"]


def test_each_try_is_on_one_page(admin_client, alice):
    """On that of the events around it, or at one of the ends."""
    command, start = running(alice), timezone.now() - timedelta(hours=1)
    many_events(command, 2 * EVENTS_PER_PAGE)
    for event in command.events.all():
        event.at = start + timedelta(seconds=event.seq)
        event.save(update_fields=["at"])
    for attempt, after in enumerate((0, 50, EVENTS_PER_PAGE + 0.5, EVENTS_PER_PAGE + 1, 10_000), start=1):
        run = StageRun.objects.create(command=command, stage=Stage.RUNNER, attempt=attempt)
        StageRun.objects.filter(pk=run.pk).update(started_at=start + timedelta(seconds=after))

    def tries(page):
        rows = texts_of(admin_client, command, events=page)
        return [int(found) for row in rows for found in re.findall(r"try (\d)", row)]

    assert [tries(1), tries(2)] == [[1, 2, 3], [4, 5]]


def test_events_that_were_deleted_are_said_to_be(admin_client, alice):
    command = running(alice, last_seq=300)
    assert texts_of(admin_client, command) == ["What was here has been deleted, as the rules of retention say."]


def test_of_a_huge_output_the_beginning_is_shown(admin_client, alice):
    command = ended_command(alice)
    CommandResult.objects.filter(command=command).update(output="x" * (OUTPUT_SHOWN + 1), summary="<b>done</b>")
    page = admin_client.get(page_of(command)).content.decode()
    assert "x" * OUTPUT_SHOWN in page
    assert "x" * (OUTPUT_SHOWN + 1) not in page
    assert "&lt;b&gt;done" in page


def test_the_page_of_an_unfinished_command_costs_as_much_with_many_tries_as_with_few(admin_client, alice):
    def cost(tries):
        command = running(alice)
        many_events(command, tries * 10)
        for attempt in range(1, tries + 1):
            StageRun.objects.create(command=command, stage=Stage.RUNNER, attempt=attempt, instance=f"http://{attempt}")
            ServiceInstance.objects.get_or_create(kind="runner", base_url=f"http://{attempt}", source="admin")
        with CaptureQueriesContext(connection) as captured:
            assert admin_client.get(page_of(command)).status_code == 200
        return len(captured)

    cost(1)
    assert cost(2) == cost(30)


def test_nobody_sees_the_story_who_may_not_see_commands(alice):
    command = command_submit(user=alice, text="echo secret")
    answer = people.staff(name="blind").get(page_of(command))
    assert answer.status_code == 403


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0 ms"),
        (0.0421, "42 ms"),
        (1, "1.0 s"),
        (59.94, "59.9 s"),
        (60, "1 min 0 s"),
        (3599, "59 min 59 s"),
        (3600, "1 h 0 min"),
        (172_800, "2 days 0 h"),
    ],
)
def test_how_long_something_took_is_written_as_one_reads_it(seconds, text):
    assert duration_text(timedelta(seconds=seconds)) == text
