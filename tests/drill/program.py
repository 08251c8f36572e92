"""What `make drill` and `make chaos` have in common as programs: seed, folder, how they end."""

import argparse
import secrets
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.system import interrupt_on_signals
from gateway.embedded.system import StartError


def seed_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seed", type=int, default=secrets.randbelow(10_000), help="of an earlier run, to repeat it")


def run_in_folder(act: Callable[[argparse.Namespace, Path], bool], arguments: argparse.Namespace, name: str) -> None:
    """Let `act` happen in a folder of its own. If it returns that not all was good, keep the folder and exit with 1."""
    interrupt_on_signals()
    folder = Path(tempfile.mkdtemp(prefix=f"gateway-{name}-"))
    try:
        is_good = act(arguments, folder)
    except StartError as error:
        sys.exit(f"The system did not start: {error}")
    except KeyboardInterrupt:
        shutil.rmtree(folder, ignore_errors=True)
        sys.exit(130)  # as a shell has it for Ctrl-C
    if not is_good:
        sys.exit(f"NOT GOOD: seed {arguments.seed}. The data and the logs are in {folder}")
    shutil.rmtree(folder, ignore_errors=True)
