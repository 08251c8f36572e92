"""The storage, whatever is behind it."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def storage_errors() -> Iterator[None]:
    """Turn what goes wrong in a storage into OSError: a backend such as S3 raises errors of its own library."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        raise OSError(f"the storage failed: {error!r}") from error
