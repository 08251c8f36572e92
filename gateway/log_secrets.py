import logging
import re

_CALLBACK = re.compile(r"(/callbacks/[^/\s]+/)[^/\s'\"]+")


class SecretsFilter(logging.Filter):
    """Keeps out of the logs what lets somebody in: the token in the address of a callback."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(_CALLBACK.sub(r"\1...", arg) if isinstance(arg, str) else arg for arg in record.args)
        return True
