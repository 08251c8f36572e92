"""The command line: ``python -m integrations.sandbox segmentation|runner|archive``."""

from __future__ import annotations

import argparse
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn

from integrations.sandbox import archive, runner, segmentation
from integrations.sandbox.protocol import DroppableProtocol
from integrations.sandbox.store import Store

if TYPE_CHECKING:
    from collections.abc import Sequence

SERVICES = {"segmentation": segmentation.create_app, "runner": runner.create_app, "archive": archive.create_app}
BACKLOG = 512


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m integrations.sandbox", description=__doc__)
    parser.add_argument("service", choices=sorted(SERVICES))
    parser.add_argument("--host", default="127.0.0.1")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--port", type=int, default=0, help="0 (the default) takes a free one")
    where.add_argument("--fd", type=int, help="an inherited socket that already listens")
    parser.add_argument("--state-dir", type=Path, help="where state outlives the process; without it nothing does")
    return parser.parse_args(argv)


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
        SERVICES[arguments.service](store),
        http=DroppableProtocol,
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
