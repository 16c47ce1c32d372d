"""Serves an application on the loopback interface of this computer, and nowhere else."""

from __future__ import annotations

import contextlib
import socket

import uvicorn
from starlette.types import ASGIApp

from fer_jax.errors import UserError

LOOPBACK = "127.0.0.1"
_PATIENCE_S = 3  # for responses that are under way when the server is stopped


def listen(port: int) -> socket.socket:
    """A listening socket on 127.0.0.1; if `port` is 0, a free port is chosen.

    Raises:
        UserError: the port cannot be used, e.g. because it is in use or needs privileges.
    """
    listener = socket.socket()
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((LOOPBACK, port))
        listener.listen()
    except OSError as error:
        listener.close()
        raise UserError(
            f"serve: cannot listen on port {port} ({error.strerror}); choose another one with "
            "--port, or 0 for a free one"
        ) from error
    return listener


def address(listener: socket.socket) -> str:
    """The address to open in a browser."""
    return f"http://{LOOPBACK}:{listener.getsockname()[1]}/"


def make_server(app: ASGIApp) -> uvicorn.Server:
    """A server for the application `app`, which logs no requests."""
    return uvicorn.Server(
        uvicorn.Config(
            app, loop="asyncio", http="h11", ws="none", lifespan="off", log_config=None,
            log_level="critical", access_log=False, server_header=False, proxy_headers=False,
            timeout_graceful_shutdown=_PATIENCE_S,
        )
    )  # fmt: skip


def serve(app: ASGIApp, listener: socket.socket) -> None:
    """Serves requests until SIGINT (Ctrl-C)."""
    with contextlib.suppress(KeyboardInterrupt):  # uvicorn raises it after closing everything
        make_server(app).run(sockets=[listener])
