"""A folder that a service and the gateway both mount, each perhaps at a place of its own.

The service writes there what it likes, so nothing in it is believed: no link is followed, only plain files are read,
up to a limit, and no name that a service gives leads out of it.
"""

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Self

from django.conf import settings

from integrations.clients.base import path_segment
from integrations.clients.errors import InvalidAnswerError, NotFoundError, Reason, TransientError
from integrations.clients.http import MAX_ANSWER_BYTES
from integrations.registry import ServiceKind

HEAD_BYTES = 64 * 1024
FILE_MODE = 0o640  # what a person's command says is for the service's group, and for nobody else
_NO_PLAIN_FILE = {errno.ELOOP, errno.ENOTDIR, errno.ENXIO, errno.ENAMETOOLONG}


@dataclass(frozen=True)
class Found:
    name: str
    modified: float
    size: int


@dataclass(frozen=True)
class SharedFolder:
    """Every method raises ServiceError and nothing else."""

    here: Path
    there: PurePosixPath

    @classmethod
    def of(cls, kind: ServiceKind) -> Self:
        return cls(Path(settings.SERVICE_SHARED_DIRS[kind]), PurePosixPath(settings.SERVICE_REMOTE_DIRS[kind]))

    def name_of(self, remote_path: str) -> str:
        """Return the path within the folder of a file whose path a service gave."""
        path = PurePosixPath(remote_path)
        if ".." in path.parts or not path.is_relative_to(self.there) or path == self.there:
            raise InvalidAnswerError("the path of the file is not one in the shared folder")
        name = str(path.relative_to(self.there))
        path_segment(name)  # it is kept as the name of the file: not too long, and printable
        return name

    def remote_path(self, name: str) -> str:
        return str(self.there / name)

    def read(self, name: str) -> str:
        """Return the text of a file. One that changes meanwhile is not complete yet."""
        content = self._read(name)
        try:
            return content.decode()
        except UnicodeDecodeError as error:
            raise InvalidAnswerError("the file is not UTF-8 text") from error

    def head(self, name: str) -> bytes:
        """Return how a file begins, however large it is."""
        with self._opened(name) as file:
            return os.read(file, HEAD_BYTES)

    def _read(self, name: str) -> bytes:
        with self._opened(name) as file:
            before = os.fstat(file)
            if not stat.S_ISREG(before.st_mode):
                raise InvalidAnswerError("it is not a plain file")
            if before.st_size > MAX_ANSWER_BYTES:
                raise InvalidAnswerError("the file is too large")
            content = bytearray()
            while chunk := os.read(file, before.st_size + 1 - len(content)):
                content += chunk
            after = os.fstat(file)
        if (len(content), after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
            raise InvalidAnswerError("the file was still being written")
        return bytes(content)

    def modified(self, name: str) -> float | None:
        """Return when a file was last written, None if it is not there."""
        try:
            with self._errors(), ExitStack() as stack:
                return os.stat(name, dir_fd=self._root(stack), follow_symlinks=False).st_mtime
        except NotFoundError:
            return None

    def plain_files(self, prefix: str, suffix: str) -> list[Found]:
        """Return the files with such names at the top of the folder, the oldest first."""
        found = []
        with self._errors(), ExitStack() as stack:
            for entry in stack.enter_context(os.scandir(self._root(stack))):
                if not (entry.name.startswith(prefix) and entry.name.endswith(suffix)):
                    continue
                with suppress(FileNotFoundError):  # gone since
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISREG(status.st_mode):
                        found.append(Found(entry.name, status.st_mtime, status.st_size))
        return sorted(found, key=lambda file: (file.modified, file.name))

    def write(self, name: str, text: str) -> None:
        """Put a whole file there at once, in place of one that may be there already."""
        with self._errors(), ExitStack() as stack:
            folder = self._root(stack)
            temporary = f".{secrets.token_hex(16)}.tmp"
            file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE, dir_fd=folder)
            try:
                with os.fdopen(file, "wb") as stream:
                    os.fchmod(file, FILE_MODE)  # whatever the umask of this process
                    stream.write(text.encode())
                    stream.flush()
                    os.fsync(file)
                os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
            except BaseException:
                with suppress(OSError):
                    os.unlink(temporary, dir_fd=folder)
                raise

    def claim(self, name: str) -> bool:
        """Make an empty file. Return whether it was this caller who made it: of several, one."""
        with self._errors(), ExitStack() as stack:
            try:
                os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE, dir_fd=self._root(stack)))
            except FileExistsError:
                return False
        return True

    def remove(self, name: str) -> None:
        with self._errors(), ExitStack() as stack, suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._root(stack))

    @contextmanager
    def _opened(self, name: str) -> Iterator[int]:
        """Open a file, step by step: a link on the way would lead out of the folder."""
        path = PurePosixPath(name)
        if not path.parts or path.is_absolute() or ".." in path.parts:
            raise InvalidAnswerError("the path of the file is not one in the shared folder")
        *folders, last = path.parts
        with self._errors(), ExitStack() as stack:
            at = self._root(stack)
            for folder in folders:
                at = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=at)
                stack.callback(os.close, at)
            # Opening a pipe would wait for a writer.
            file = os.open(last, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=at)
            stack.callback(os.close, file)
            yield file

    def _root(self, stack: ExitStack) -> int:
        try:
            root = os.open(self.here, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise _unusable(error) from error
        stack.callback(os.close, root)
        return root

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError as error:
            raise NotFoundError("the file is not in the shared folder") from error
        except OSError as error:
            if error.errno in _NO_PLAIN_FILE:
                raise InvalidAnswerError("it is not a plain file") from error
            raise _unusable(error) from error


def _unusable(error: OSError) -> TransientError:
    return TransientError(Reason.UNAVAILABLE, f"the shared folder: {error.strerror}")
