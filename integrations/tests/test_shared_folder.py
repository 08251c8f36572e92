"""What lies in a shared folder is whatever a service, or somebody else, has put there."""

import os
import stat
import threading
from pathlib import Path

import pytest

from integrations.clients import shared_folder
from integrations.clients.errors import InvalidAnswerError, NotFoundError, TransientError
from integrations.clients.shared_folder import SharedFolder
from integrations.registry import ServiceKind

LIMIT = 1000


@pytest.fixture
def folder(tmp_path, settings, monkeypatch):
    monkeypatch.setattr(shared_folder, "MAX_ANSWER_BYTES", LIMIT)
    (tmp_path / "shared").mkdir()
    settings.SERVICE_SHARED_DIRS = {"runner": str(tmp_path / "shared")}
    settings.SERVICE_REMOTE_DIRS = {"runner": "/srv/exchange"}
    return SharedFolder.of(ServiceKind.RUNNER)


class TestPaths:
    def test_a_path_of_the_service_becomes_one_in_the_folder(self, folder):
        assert folder.name_of("/srv/exchange/1.alt") == "1.alt"
        assert folder.name_of("/srv//exchange/./alt/1 ü.alt") == "alt/1 ü.alt"
        assert folder.remote_path("1.alt") == "/srv/exchange/1.alt"

    @pytest.mark.parametrize(
        "path",
        [
            "/etc/passwd",
            "/srv/exchange",
            "/srv/exchange/",
            "/srv/exchange/../secret",
            "/srv/exchange/a/../../secret",
            "/srv/exchange-2/1.alt",
            "//srv/exchange/1.alt",
            "1.alt",
            "../1.alt",
            "",
            ".",
            "/srv/exchange/a\0b",
            "/srv/exchange/a\nb",
            "/srv/exchange/\ud800",
            "/srv/exchange/" + "x" * 300,
            "file:///srv/exchange/1.alt",
            "C:\\exchange\\1.alt",
        ],
    )
    def test_a_path_that_leads_elsewhere_is_refused(self, folder, path):
        with pytest.raises(InvalidAnswerError):
            folder.name_of(path)


class TestReading:
    def test_a_file_is_read_as_it_is(self, folder):
        (folder.here / "alt").mkdir()
        (folder.here / "alt" / "1.alt").write_bytes("ünlü\r\n".encode())
        assert folder.read("alt/1.alt") == "ünlü\r\n"

    def test_a_file_that_is_not_there(self, folder):
        for name in ("1.alt", "alt/1.alt"):
            with pytest.raises(NotFoundError):
                folder.read(name)

    @pytest.mark.parametrize("name", ["../secret", "a/../../secret", "/etc/passwd", "", ".", "/"])
    def test_no_name_leads_out(self, folder, name):
        (folder.here.parent / "secret").write_text("secret")
        with pytest.raises(InvalidAnswerError):
            folder.read(name)

    @pytest.mark.parametrize("target", ["/etc/passwd", "../secret", "real"])
    def test_no_link_is_followed(self, folder, target):
        (folder.here / "real").write_text("text")
        (folder.here.parent / "secret").write_text("secret")
        (folder.here / "1.alt").symlink_to(target)
        with pytest.raises(InvalidAnswerError):
            folder.read("1.alt")
        assert folder.plain_files("1", ".alt") == []

    def test_no_link_to_a_folder_is_followed(self, folder):
        (folder.here.parent / "outside").mkdir()
        (folder.here.parent / "outside" / "1.alt").write_text("secret")
        (folder.here / "alt").symlink_to("../outside")
        with pytest.raises(InvalidAnswerError):
            folder.read("alt/1.alt")

    def test_what_is_no_plain_file_is_not_waited_for(self, folder):
        os.mkfifo(folder.here / "pipe.alt")
        (folder.here / "folder.alt").mkdir()
        for name in ("pipe.alt", "folder.alt"):
            with pytest.raises(InvalidAnswerError):
                folder.read(name)
        assert folder.plain_files("", ".alt") == []

    @pytest.mark.parametrize("content", [b"x" * (LIMIT + 1), b"\xff\xfe\x00", b"caf\xe9"])
    def test_what_is_too_large_or_no_text_is_refused(self, folder, content):
        (folder.here / "1.alt").write_bytes(content)
        with pytest.raises(InvalidAnswerError):
            folder.read("1.alt")

    def test_fifty_megabytes_are_not_read(self, folder):
        with (folder.here / "1.alt").open("wb") as file:
            file.write(b"head")
            file.truncate(50 * 1024 * 1024)
        with pytest.raises(InvalidAnswerError):
            folder.read("1.alt")
        assert folder.head("1.alt")[:5] == b"head\0"
        assert len(folder.head("1.alt")) == shared_folder.HEAD_BYTES

    def test_a_file_that_grows_while_it_is_read_is_not_complete(self, folder, monkeypatch):
        path = folder.here / "1.alt"
        path.write_bytes(b"first half, ")
        real = os.read

        def read(file, size):
            monkeypatch.setattr(os, "read", real)
            with path.open("ab") as appending:
                appending.write(b"second half")
            return real(file, size)

        monkeypatch.setattr(os, "read", read)
        with pytest.raises(InvalidAnswerError):
            folder.read("1.alt")
        assert folder.read("1.alt") == "first half, second half"

    def test_a_folder_that_is_not_there_may_come_back(self, folder):
        folder.here.rmdir()
        for use in (
            lambda: folder.read("1.alt"),
            lambda: folder.head("1.alt"),
            lambda: folder.modified("1.alt"),
            lambda: folder.plain_files("", ""),
            lambda: folder.write("1.alt", "text"),
            lambda: folder.claim("1.claim"),
            lambda: folder.remove("1.claim"),
        ):
            with pytest.raises(TransientError):
                use()


class TestWriting:
    def test_a_file_appears_whole_and_replaces_another(self, folder):
        for text in ("one", "zwölf"):
            folder.write("1.alt", text)
            assert (folder.here / "1.alt").read_text() == text
        assert [path.name for path in folder.here.iterdir()] == ["1.alt"]
        assert stat.S_IMODE((folder.here / "1.alt").stat().st_mode) == 0o640

    def test_a_link_in_its_place_is_replaced_and_not_followed(self, folder):
        outside = folder.here.parent / "outside"
        outside.write_text("precious")
        (folder.here / "1.alt").symlink_to(outside)
        folder.write("1.alt", "text")
        assert outside.read_text() == "precious"
        assert folder.read("1.alt") == "text"

    def test_nothing_is_left_of_what_could_not_be_written(self, folder, monkeypatch):
        def full(_file: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(TransientError, match="No space left"):
            folder.write("1.alt", "text")
        assert list(folder.here.iterdir()) == []

    def test_of_many_one_gets_the_claim(self, folder):
        together = threading.Barrier(8)
        got = []

        def claim() -> None:
            together.wait()
            got.append(folder.claim("1.claim"))

        threads = [threading.Thread(target=claim) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(got) == [False] * 7 + [True]
        folder.remove("1.claim")
        folder.remove("1.claim")
        assert folder.modified("1.claim") is None
        assert folder.claim("1.claim")
        assert folder.modified("1.claim") is not None


def test_files_are_listed_from_the_oldest(folder):
    for name, modified in (("last_b.json", 20), ("last_c.json", 10), ("last_a.json", 20), ("other.json", 5)):
        path = Path(folder.here, name)
        path.write_text("{}")
        os.utime(path, (modified, modified))
    files = folder.plain_files("last_", ".json")
    assert [(file.name, file.modified, file.size) for file in files] == [
        ("last_c.json", 10, 2),
        ("last_a.json", 20, 2),
        ("last_b.json", 20, 2),
    ]
