"""HTTP and websockets on a socket that the supervisor has bound already: `python -m gateway.embedded.web FD`."""

import socket
import sys

import uvicorn


def serve(fd: int) -> None:
    config = uvicorn.Config(
        "gateway.asgi:application",
        lifespan="off",  # Django knows no lifespan
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,  # X-Forwarded-For is for gateway.origin to judge
        ws_max_size=64 * 1024,
        timeout_graceful_shutdown=3,
    )
    uvicorn.Server(config).run(sockets=[socket.socket(fileno=fd)])


if __name__ == "__main__":
    serve(int(sys.argv[1]))
