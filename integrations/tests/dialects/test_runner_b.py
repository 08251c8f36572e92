import json
import os

import pytest

from integrations.clients import shared_folder
from integrations.clients.base import WorkReport, WorkState
from integrations.clients.dialects import client_for, runner_b
from integrations.clients.dialects.runner_b import SENTINEL, alt_text, work_name
from integrations.clients.errors import (
    InvalidAnswerError,
    NotFoundError,
    NotTakenError,
    PermanentError,
    Reason,
    ServiceError,
    TransientError,
)
from integrations.clients.runner import RunRequest
from integrations.registry import Instance, ServiceKind

ALT = {"id": "a", "version": "1.0", "title": "", "tasks": [{"id": "1", "description": "echo"}], "metadata": {"b": 1}}
RUN = RunRequest("7.alt", json.dumps(ALT), "chaos", "researcher", "normal", {"depth": 1}, "http://127.0.0.1/cb")
KEY, NAME = "c0ffee:runner", "c0ffee_runner-1"
ACCEPTED = {"request_id": "r", "alt_file_id": NAME, "status": "processing", "last_file_path": None}


@pytest.fixture
def client(server, settings, tmp_path):
    settings.SERVICE_SHARED_DIRS = {"runner": str(tmp_path)}
    settings.SERVICE_REMOTE_DIRS = {"runner": "/srv/exchange"}
    (tmp_path / SENTINEL).touch()
    server.says(ACCEPTED, status=202)
    return client_for(Instance(ServiceKind.RUNNER, server.url, "b"))


def submit(client):
    return client.submit(RUN, idempotency_key=KEY)


def working(number=1):
    return WorkReport(f"c0ffee_runner-{number}", WorkState.WORKING)


def leave(tmp_path, name="last_1.json", **last):
    """Leave a result in the folder, as the runner does."""
    text = json.dumps({"id": "l", "alt_file_id": NAME, "status": "success"} | last)
    (tmp_path / name).write_text(text)
    return text


def make_old(path):
    os.utime(path, (1, 1))


class TestHandingOver:
    def test_it_is_asked_as_the_contract_says(self, client, server, tmp_path):
        assert submit(client) == working()
        method, path, _headers, body = server.requests[0]
        assert (method, path) == ("POST", "/api/v1/process")
        assert json.loads(body) == {
            "file_path": f"/srv/exchange/{NAME}.alt",
            "priority": "medium",
            "mode": "chaos",
            "persona": "researcher",
        }
        assert json.loads((tmp_path / f"{NAME}.alt").read_text())["id"] == NAME

    def test_repeats_send_nothing(self, client, server):
        for _ in range(3):
            assert submit(client) == working()
        assert client.recover(RUN, idempotency_key=KEY) == working()
        assert client.report(NAME) == working()
        client.cancel(NAME)
        assert len(server.requests) == 1

    @pytest.mark.parametrize(
        ("status", "headers", "error"),
        [
            (404, {}, NotFoundError),
            (400, {}, PermanentError),
            (422, {}, PermanentError),
            (429, {}, NotTakenError),
            (503, {"Retry_After": "1"}, NotTakenError),
        ],
    )
    def test_what_it_refuses_may_be_sent_again_at_once(self, client, server, status, headers, error):
        server.says({"detail": "no"}, status=status, **headers)
        with pytest.raises(error):
            submit(client)
        with pytest.raises(NotFoundError):
            client.recover(RUN, idempotency_key=KEY)
        server.says(ACCEPTED)
        assert submit(client) == working()
        assert len(server.requests) == 2

    @pytest.mark.parametrize(
        ("body", "status"),
        [({}, 500), ({}, 503), ({}, 502), ({}, 408), ({}, 302), (b"<html>", 200), ([], 202), ({"alt_file_id": 5}, 202)],
    )
    def test_what_nobody_knows_of_is_not_sent_again(self, client, server, tmp_path, body, status):
        server.says(body, status=status)
        for _ in range(3):
            assert submit(client) == working()
        assert len(server.requests) == 1
        leave(tmp_path)
        assert submit(client).state is WorkState.DONE

    def test_for_as_long_as_it_may_still_be_running(self, client, server, tmp_path):
        server.says({}, status=500)
        submit(client)
        make_old(tmp_path / f".{NAME}.claim")
        with pytest.raises(NotFoundError):
            client.report(NAME)
        server.says(ACCEPTED | {"alt_file_id": "c0ffee_runner-2"})
        assert submit(client) == working(2)
        assert json.loads((tmp_path / "c0ffee_runner-2.alt").read_text())["id"] == "c0ffee_runner-2"
        leave(tmp_path)  # it was the first one after all
        assert client.report("c0ffee_runner-2").file_id.endswith("/last_1.json")
        assert len(server.requests) == 2

    def test_what_may_still_be_at_work_is_not_called_stopped(self, client, server, tmp_path):
        server.says({}, status=500)
        submit(client)
        make_old(tmp_path / f".{NAME}.claim")
        assert client.recover(RUN, idempotency_key=KEY) == working()
        with pytest.raises(TransientError):
            client.cancel(NAME)

    @pytest.mark.parametrize("said", [f"{NAME}.alt", f"/srv/exchange/{NAME}.alt"])
    def test_it_may_call_the_file_by_its_path(self, client, server, said):
        server.says(ACCEPTED | {"alt_file_id": said})
        assert submit(client) == working()

    def test_after_an_answer_about_another_file_nobody_knows(self, client, server, tmp_path):
        server.says(ACCEPTED | {"alt_file_id": "other"})
        assert submit(client) == working()
        assert submit(client) == working()
        assert not (tmp_path / f".{NAME}.accepted").exists()
        assert len(server.requests) == 1

    def test_a_folder_that_cannot_be_written_sends_nothing(self, client, server, tmp_path, settings):
        settings.SERVICE_SHARED_DIRS = {"runner": str(tmp_path / "gone")}
        with pytest.raises(TransientError):
            submit(client)
        assert server.requests == []

    def test_a_folder_that_was_emptied_sends_nothing_of_what_was_sent(self, client, server, tmp_path):
        """As when it is not mounted for a while: the mount point is an empty folder."""
        submit(client)
        for path in tmp_path.iterdir():
            path.unlink()
        with pytest.raises(TransientError):
            client.report(NAME)

    @pytest.mark.parametrize("emptied", [False, True], ids=["never used", "used elsewhere"])
    def test_where_the_folder_is_not_mounted_nothing_is_concluded(self, client, server, tmp_path, emptied):
        if emptied:
            submit(client)
        sent = len(server.requests)
        for path in tmp_path.iterdir():
            path.unlink()
        for ask in (client.submit, client.recover):
            with pytest.raises(TransientError, match="mounted"):
                ask(RUN, idempotency_key=KEY)
        assert len(server.requests) == sent

    @pytest.mark.parametrize("remote_id", ["task-x", "7", "../../etc-1/x", f"{NAME}\n", ""])
    def test_work_of_another_service_is_not_known(self, client, remote_id):
        with pytest.raises(ServiceError) as raised:
            client.report(remote_id)
        assert isinstance(raised.value, NotFoundError | TransientError)


class TestResults:
    def test_a_result_names_its_source(self, client, tmp_path):
        submit(client)
        leave(tmp_path, "last_0.json", alt_file_id="another-1")
        leave(tmp_path, "last_2.json", alt_file_id="c0ffee_runner-x-1")
        leave(tmp_path, "last_3.json", metadata={"alt_file_id": NAME}, alt_file_id="another-1")
        leave(tmp_path, "other.json")
        assert client.report(NAME) == working()
        text = leave(tmp_path)
        assert client.report(NAME) == WorkReport(NAME, WorkState.DONE, f"{NAME}/last_1.json")
        assert client.fetch(f"{NAME}/last_1.json") == text

    @pytest.mark.parametrize("said", [f"{NAME}.alt", f"/srv/exchange/{NAME}.alt"])
    def test_it_may_name_it_by_its_path(self, client, tmp_path, said):
        submit(client)
        leave(tmp_path, alt_file_id=said)
        assert client.report(NAME).state is WorkState.DONE

    @pytest.mark.parametrize("status", ["failure", "Failure"])
    def test_a_failure_is_one_and_says_why(self, client, tmp_path, status):
        submit(client)
        leave(tmp_path, status=status, summary="all went wrong\n")
        assert client.report(NAME) == WorkReport(NAME, WorkState.FAILED, f"{NAME}/last_1.json", error="all went wrong")

    @pytest.mark.parametrize("text", ["\ufeff", ""])
    @pytest.mark.parametrize("status", ["PartialSuccess", "success"])
    def test_whatever_else_it_says_is_for_the_reader_of_the_file(self, client, tmp_path, status, text):
        submit(client)
        (tmp_path / "last_1.json").write_text(text + leave(tmp_path, status=status, summary={}))
        assert client.report(NAME).state is WorkState.DONE

    @pytest.mark.parametrize("status", [5, None, "running", ""])
    def test_what_a_run_writes_before_its_end_is_no_result(self, client, tmp_path, status):
        submit(client)
        leave(tmp_path, status=status)
        assert client.report(NAME) == working()
        leave(tmp_path, summary="the end")
        assert client.report(NAME).state is WorkState.DONE

    def test_a_file_that_became_another_works_is_not_delivered(self, client, tmp_path):
        submit(client)
        leave(tmp_path)
        file_id = client.report(NAME).file_id
        leave(tmp_path, alt_file_id="deadbeef_runner-1", summary="for somebody else")
        with pytest.raises(InvalidAnswerError):
            client.fetch(file_id)

    def test_of_several_the_oldest_counts(self, client, tmp_path):
        submit(client)
        for name in ("last_a.json", "last_b.json", "last_c.json"):
            leave(tmp_path, name)
        begun = (tmp_path / f".{NAME}.claim").stat().st_mtime
        os.utime(tmp_path / "last_b.json", (begun, begun))
        os.utime(tmp_path / "last_a.json", (begun + 5, begun + 5))
        assert client.report(NAME).file_id.endswith("/last_b.json")

    def test_a_file_from_before_the_work_is_not_its_result(self, client, tmp_path):
        submit(client)
        leave(tmp_path)
        make_old(tmp_path / "last_1.json")
        assert client.report(NAME) == working()

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"{",
            b'{"alt_file_id": "c0ffee_runner-1", "status": "succ',
            b'["c0ffee_runner-1"]',
            b'"c0ffee_runner-1"',
            b'{"alt_file_id": ["c0ffee_runner-1"]}',
            b'{"alt_file_id": "c0ffee_runner-1", "x": "\xff"}',
            b'{"alt_file_id": "c0ffee_runner-1", "x": ' + b"[" * 100_000,
            b'{"alt_file_id": "c0ffee_runner-1", "x": ' + b"1" * 5000 + b"}",
            b"\0" * 100,
        ],
        ids=lambda content: repr(content)[:30],
    )
    def test_half_a_file_or_nonsense_is_no_result_yet(self, client, tmp_path, content):
        submit(client)
        (tmp_path / "last_0.json").write_bytes(content)
        assert client.report(NAME) == working()
        leave(tmp_path)
        assert client.report(NAME).file_id.endswith("/last_1.json")

    def test_a_file_is_read_once_for_all_runs_until_it_changes(self, client, tmp_path, monkeypatch):
        submit(client)
        leave(tmp_path, "last_0.json", alt_file_id="another-1")
        read = []
        real = shared_folder.SharedFolder.read
        monkeypatch.setattr(
            shared_folder.SharedFolder, "read", lambda self, name: read.append(name) or real(self, name)
        )
        for _ in range(3):
            assert client.report(NAME) == working()
        assert read == ["last_0.json"]
        leave(tmp_path, "last_0.json", artifacts=["more"])
        assert client.report(NAME).file_id.endswith("/last_0.json")

    def test_nonsense_is_read_once_too_unless_it_is_new(self, client, tmp_path, monkeypatch):
        """Else a few large files of it would take the time of every look."""
        submit(client)
        (tmp_path / "last_0.json").write_text("{")
        read = []
        real = shared_folder.SharedFolder.read
        monkeypatch.setattr(
            shared_folder.SharedFolder, "read", lambda self, name: read.append(name) or real(self, name)
        )
        for _ in range(2):
            assert client.report(NAME) == working()
        assert len(read) == 2
        monkeypatch.setattr(runner_b, "SETTLED_SECONDS", 0)
        for _ in range(3):
            assert client.report(NAME) == working()
        assert len(read) == 3
        leave(tmp_path, "last_0.json")
        assert client.report(NAME).state is WorkState.DONE

    def test_a_file_that_cannot_be_read_does_not_hide_the_others(self, client, tmp_path, monkeypatch):
        submit(client)
        leave(tmp_path, "last_0.json")
        leave(tmp_path, "last_1.json")
        real = shared_folder.SharedFolder.read

        def read(self, name):
            if name == "last_0.json":
                raise TransientError(Reason.UNAVAILABLE, "the shared folder: Permission denied")
            return real(self, name)

        monkeypatch.setattr(shared_folder.SharedFolder, "read", read)
        assert client.report(NAME).file_id.endswith("/last_1.json")

    def test_links_and_pipes_are_no_results(self, client, tmp_path):
        submit(client)
        leave(tmp_path, "elsewhere")
        (tmp_path / "last_0.json").symlink_to(tmp_path / "elsewhere")
        os.mkfifo(tmp_path / "last_1.json")
        (tmp_path / "last_2.json").mkdir()
        leave(tmp_path, "last_\n.json")
        assert client.report(NAME) == working()

    def test_a_result_that_is_too_large_is_named_and_those_of_others_are_passed_over(
        self, client, tmp_path, monkeypatch
    ):
        for module in (runner_b, shared_folder):
            monkeypatch.setattr(module, "MAX_ANSWER_BYTES", 1000)
        submit(client)
        leave(tmp_path, "last_0.json", alt_file_id="another-1", artifacts="x" * 2000)
        assert client.report(NAME) == working()
        leave(tmp_path, artifacts="x" * 2000)
        with pytest.raises(InvalidAnswerError, match="too large"):
            client.report(NAME)

    def test_looking_has_an_end(self, client, tmp_path, settings):
        submit(client)
        leave(tmp_path)
        settings.SERVICE_TIMEOUT = -1
        with pytest.raises(TransientError):
            client.report(NAME)

    @pytest.mark.parametrize("file_id", ["../secret", "/etc/passwd", f"{NAME}/../secret", f"{NAME}//etc/passwd", NAME])
    def test_only_the_folder_is_read(self, client, tmp_path, file_id):
        with pytest.raises(ServiceError):
            client.fetch(file_id)


class TestTheFile:
    def read(self, request=RUN):
        return json.loads(alt_text(request, NAME))

    def test_it_is_in_the_spelling_of_the_runner(self):
        alt = self.read()
        assert (alt["id"], alt["mode"], alt["persona"], alt["priority"]) == (NAME, "chaos", "researcher", "medium")
        assert alt["metadata"] == {"b": 1, "source_alt_id": "a", "parameters": {"depth": 1}}
        assert alt["created_at"].endswith("Z")

    @pytest.mark.parametrize(
        ("written", "read"),
        [
            ("2025-04-28T00:28:21.922739", "2025-04-28T00:28:21.922739Z"),
            ("2025-04-26T19:32:00Z", "2025-04-26T19:32:00Z"),
            ("2025-04-26T19:32:00+03:00", "2025-04-26T19:32:00+03:00"),
        ],
    )
    def test_times_have_a_zone(self, written, read):
        request = RunRequest("a", json.dumps(ALT | {"created_at": written}), "normal", "p", "low", {}, "")
        assert self.read(request)["created_at"] == read

    @pytest.mark.parametrize(("given", "kept"), [("normal", "medium"), ("Critical", "critical"), ("urgent", None)])
    def test_priorities_of_tasks_are_words_it_knows(self, given, kept):
        tasks = [{"id": "1", "priority": given}]
        request = RunRequest("a", json.dumps(ALT | {"tasks": tasks}), "normal", "p", "high", {}, "")
        assert self.read(request)["tasks"][0].get("priority") == kept
        assert self.read(request)["priority"] == "high"


def test_different_keys_have_different_names():
    keys = ["a:b", "a_b", "a-b", "a/b", "../a", "a" * 101, "", "ü", "a\0"]
    names = [work_name(key) for key in keys]
    assert names[0] == "a_b"
    assert len(set(names)) == len(keys)
    assert all(name.replace("_", "").replace("-", "").isalnum() for name in names)
