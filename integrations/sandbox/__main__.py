"""The command line: ``python -m integrations.sandbox segmentation|runner|archive``."""

from __future__ import annotations

import argparse
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn

from integrations.sandbox import archive, archive_b, runner, runner_b, segmentation, segmentation_b
from integrations.sandbox.protocol import SandboxProtocol
from integrations.sandbox.store import Store

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.applications import Starlette

STANDARD = "standard"
SERVICES = {
    ("segmentation", STANDARD): segmentation.create_app,
    ("segmentation", "a"): segmentation.create_app,  # its callers ask for less, and it answers the same
    ("runner", STANDARD): runner.create_app,
    ("archive", STANDARD): archive.create_app,
    ("archive", "b"): archive_b.create_app,
}
SHARING_SERVICES = {("segmentation", "b"): segmentation_b.create_app, ("runner", "b"): runner_b.create_app}
BACKLOG = 512


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m integrations.sandbox", description=__doc__)
    parser.add_argument("service", choices=sorted({service for service, _ in SERVICES}))
    parser.add_argument("--dialect", default=STANDARD, help="how it speaks: standard, a or b")
    parser.add_argument("--shared-dir", type=Path, help="the folder that some dialects share with their callers")
    parser.add_argument("--host", default="127.0.0.1")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--port", type=int, default=0, help="0 (the default) takes a free one")
    where.add_argument("--fd", type=int, help="an inherited socket that already listens")
    parser.add_argument("--state-dir", type=Path, help="where state outlives the process; without it nothing does")
    arguments = parser.parse_args(argv)
    chosen = (arguments.service, arguments.dialect)
    if chosen not in {*SERVICES, *SHARING_SERVICES}:
        parser.error(f"{arguments.service} has no dialect {arguments.dialect!r}")
    if chosen in SHARING_SERVICES and not (arguments.shared_dir and arguments.shared_dir.is_absolute()):
        parser.error("this dialect needs --shared-dir, with an absolute path")
    return arguments


def create_app(arguments: argparse.Namespace, store: Store) -> Starlette:
    chosen = (arguments.service, arguments.dialect)
    if chosen in SHARING_SERVICES:
        arguments.shared_dir.mkdir(parents=True, exist_ok=True)
        (arguments.shared_dir / ".exchange").touch()  # by which the gateway knows the folder
        return SHARING_SERVICES[chosen](store, arguments.shared_dir)
    return SERVICES[chosen](store)


def listening_socket(arguments: argparse.Namespace) -> socket.socket:
    if arguments.fd is not None:
        return socket.socket(fileno=arguments.fd)
    family, kind, protocol, _, address = socket.getaddrinfo(
        arguments.host, arguments.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(address)
    listener.listen(BACKLOG)
    return listener


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parse_arguments(argv)
    try:
        listener = listening_socket(arguments)
    except OSError as error:
        sys.stderr.write(f"cannot listen: {error}\n")
        return 1
    store = Store.open(arguments.state_dir, arguments.service)
    config = uvicorn.Config(
        create_app(arguments, store),
        http=SandboxProtocol,
        ws="none",
        access_log=False,
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=1,  # a request that hangs on purpose must not hold up SIGTERM
    )
    name = listener.getsockname()
    if isinstance(name, tuple):  # an AF_UNIX socket has a path for a name, and no port to tell
        sys.stdout.write(f"{arguments.service} listens on {name[0]}:{name[1]}\n")
        sys.stdout.flush()
    try:
        uvicorn.Server(config).run(sockets=[listener])
    finally:
        store.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
