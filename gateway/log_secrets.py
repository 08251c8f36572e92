import logging
import re
from typing import Any

_CALLBACK = re.compile(r"(/callbacks/[^/\s]+/)[^/\s'\"]+")


class SecretsFilter(logging.Filter):
    """Keeps out of the logs what lets somebody in: the token in the address of a callback."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg = _without_secrets(record.msg)
        if isinstance(record.args, tuple):
            record.args = tuple(_without_secrets(arg) for arg in record.args)
        return True


def _without_secrets(value: Any) -> Any:
    return _CALLBACK.sub(r"\1...", value) if isinstance(value, str) else value
