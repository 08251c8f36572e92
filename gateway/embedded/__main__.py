import os
import sys

from gateway.embedded.system import PartEndedError, StartError, System


def open_standard_streams() -> None:
    """Put something in the place of closed ones: else a socket takes their number, and a child writes over it."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


if __name__ == "__main__":
    open_standard_streams()
    try:
        sys.exit(System().run())
    except StartError as error:
        sys.exit(f"The gateway did not start: {error}")
    except PartEndedError as error:
        sys.exit(f"The gateway stopped: {error}")
