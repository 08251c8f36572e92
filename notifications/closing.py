"""How a socket ends: whichever part of it finds a reason raises SocketClosedError, and the consumer does the rest."""

from enum import IntEnum


class CloseCode(IntEnum):
    RESTART = 1012
    NOT_SIGNED_IN = 4401
    FORBIDDEN = 4403
    SIGN_IN_TIMED_OUT = 4408
    TOO_SLOW = 4429


class SocketClosedError(Exception):
    """The socket is to be closed with this code."""

    def __init__(self, code: CloseCode) -> None:
        self.code = code
        super().__init__(code.name)
