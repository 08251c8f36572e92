"""Files go with what they are of, and what is still needed never does; no answer tells of what is gone."""

import threading

import pytest
from django.core.files.storage import default_storage
from django.db import connections
from django.utils import timezone

from commands import retention, retries, steps
from commands.models import Command, RetentionRule
from commands.retention import prune
from commands.states import Status
from commands.tests.keeping import DAY, ended, keep
from commands.tests.test_partitions import on_postgresql
from commands.tests.test_steps import ALT
from files.models import DeletedContent, StoredFile
from files.services import deleted_contents_remove
from files.tasks import remove_deleted_contents
from files.tests.rows import stored_file
from gateway.tests.expect import fields_of

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("counted")]


class TestKeptAnswers:
    """What was read a moment before, and is kept for the short way, is not told any more."""

    @pytest.fixture
    def pruned(self, django_capture_on_commit_callbacks):
        def run():
            with django_capture_on_commit_callbacks(execute=True):
                prune()

        return run

    def test_of_a_command(self, alice, alice_client, pruned):
        keep(commands=10)
        old, retry = ended(alice, 11 * DAY), ended(alice, DAY)
        Command.objects.filter(pk=retry.pk).update(retry_of=old)
        paths = [f"/api/v2/commands/{command.pk}" for command in (old, retry)]
        assert [alice_client.get(path).status_code for path in paths] == [200, 200]
        pruned()
        assert alice_client.get(paths[0]).status_code == 404
        assert alice_client.get(paths[1]).json()["retry_of"] is None

    def test_of_its_files(self, alice, alice_client, pruned):
        keep(files=10)
        path = f"/api/v2/commands/{ended(alice, 11 * DAY).pk}"
        assert len(alice_client.get(path).json()["files"]) == 3
        pruned()
        assert alice_client.get(path).json()["files"] == []


class TestFiles:
    def test_stay_while_another_command_refers_to_them(self, alice):
        """As a retry does, or a step: be it at work, or kept for longer."""
        for days in ({"commands": 10}, {"files": 10}):
            keep(**days)
            old, retry = ended(alice, 11 * DAY), ended(alice, 9 * DAY)
            Command.objects.filter(pk=retry.pk).update(alt_file=old.alt_file)
            prune()
            assert StoredFile.objects.filter(pk=old.alt_file_id).exists()
            assert not StoredFile.objects.filter(pk=old.last_file_id).exists()
            Command.objects.filter(pk=retry.pk).update(finished_at=timezone.now() - 12 * DAY)
            RetentionRule.objects.update(done_at=None, done_id=None)  # it did not end that early really
            prune()
            assert not StoredFile.objects.filter(pk=old.alt_file_id).exists()

    def test_of_two_commands_that_go_together_go_once(self, alice):
        keep(commands=10)
        old, retry = ended(alice, 11 * DAY), ended(alice, 11 * DAY)
        Command.objects.filter(pk=retry.pk).update(alt_file=old.alt_file)
        retry.alt_file.delete()
        prune()
        assert not StoredFile.objects.exists()
        assert DeletedContent.objects.count() == 6

    def test_their_bytes_go_after_the_rows(self, alice):
        keep(commands=10)
        command, kept = ended(alice, 11 * DAY), ended(alice, 9 * DAY)
        names = [file.content.name for file in command.files]
        prune()
        assert all(default_storage.exists(name) for name in names)  # not before the commit
        remove_deleted_contents()
        assert not any(default_storage.exists(name) for name in names)
        assert all(default_storage.exists(file.content.name) for file in kept.files)
        assert not DeletedContent.objects.exists()

    def test_what_the_storage_does_not_remove_is_removed_later(self, alice, monkeypatch, caplog):
        keep(commands=10)
        names = [file.content.name for file in ended(alice, 11 * DAY).files]
        prune()
        delete = default_storage.delete

        def fail_for_one(name):
            if name == names[0]:
                raise OSError("the disk is read only")
            delete(name)

        with monkeypatch.context() as patch:
            patch.setattr(default_storage, "delete", fail_for_one)
            assert deleted_contents_remove() == 2
        assert "read only" in caplog.text
        assert [default_storage.exists(name) for name in names] == [True, False, False]
        assert deleted_contents_remove() == 1
        assert not default_storage.exists(names[0])

    def test_go_with_their_user(self, alice):
        names = [file.content.name for file in ended(alice, DAY).files]
        alice.delete()
        remove_deleted_contents()
        assert not any(default_storage.exists(name) for name in names)


@pytest.mark.django_db(transaction=True)
class TestConcurrency:
    @pytest.fixture(autouse=True)
    def _rules(self):
        keep(commands=10)

    @on_postgresql  # SQLite has one writer at a time
    def test_a_retry_that_begins_to_refer_to_a_file_meanwhile_keeps_it(self, alice, monkeypatch):
        """It commits between the look at who refers to the file and its deletion."""
        old, delete = ended(alice, 11 * DAY), retention.files_delete

        def refer():
            now = timezone.now()
            Command.objects.create(user=alice, alt_file=old.alt_file, due_at=now)
            connections.close_all()

        def late(*, ids):
            thread = threading.Thread(target=refer)
            thread.start()
            thread.join()
            return delete(ids=ids)

        with monkeypatch.context() as patch:
            patch.setattr(retention, "files_delete", late)
            assert prune().total() == 0
        assert Command.objects.filter(pk=old.pk).exists()  # nothing was deleted in part
        assert StoredFile.objects.count() == 3
        assert prune() == {"commands": 1}
        assert set(StoredFile.objects.values_list("pk", flat=True)) == {old.alt_file_id}

    @on_postgresql
    def test_the_files_of_what_is_retried_just_now_are_kept_for_that(self, alice, monkeypatch):
        old = ended(alice, 11 * DAY, status=Status.FAILED)
        keep(files=10)
        take_over = retries._take_over

        def prune_elsewhere():
            prune()
            connections.close_all()

        thread = threading.Thread(target=prune_elsewhere)

        def late(again, command):
            thread.start()
            thread.join(0.5)
            return take_over(again, command)

        monkeypatch.setattr(retries, "_take_over", late)
        again = retries.command_retry(user=alice, command=old)
        thread.join()
        again.refresh_from_db()
        old.refresh_from_db()
        assert (again.alt_file is None, old.alt_file) == (False, None)

    def test_a_step_whose_file_goes_meanwhile_is_refused_in_words(self, alice, api, monkeypatch):
        old = ended(alice, 11 * DAY)
        file = stored_file(alice, text=ALT)
        Command.objects.filter(pk=old.pk).update(alt_file=file)
        store = steps.command_store

        def late(command, **more):
            assert prune() == {"commands": 1}
            return store(command, **more)

        monkeypatch.setattr(steps, "command_store", late)
        answer = api(alice).post("/api/v2/runner", {"file": str(file.pk)})
        assert fields_of(answer) == {"file": "does_not_exist"}
        assert not Command.objects.exists()
