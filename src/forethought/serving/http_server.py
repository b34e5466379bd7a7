"""The server beneath the application: uvicorn, with an end to clients that keep it waiting."""

from __future__ import annotations

import asyncio
import logging
import socket
import sys
from typing import Any

from forethought.errors import MissingExtraError
from forethought.serving.models import settle_garbage
from forethought.serving.service_log import JsonLines
from forethought.serving.settings import Limits

SWITCH_S = 0.0005  # the thread that ranks and the one that reads requests take turns more often than by default
KEEP_ALIVE_S, STOPPING_S, BACKLOG = 75, 20, 2048
FULL = b'{"error": "The service has as many connections as it takes: try again in 1 s."}'
NO_HTTP = b'{"error": "This is no request of HTTP/1.1: see /openapi.json for what is asked, and how."}'
CLOSING = b"content-type: application/json\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%b"
REFUSED = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\n" + CLOSING % (len(FULL), FULL)
INVALID = b"HTTP/1.1 400 Bad Request\r\n" + CLOSING % (len(NO_HTTP), NO_HTTP)


def check_installed() -> None:
    """Whether the packages of the extra are there.

    Raises:
        MissingExtraError: one is not.
    """
    _server()


def run_server(app: Any, listening: socket.socket, limits: Limits, *, parent: int | None = None) -> None:
    """Answer on a socket until a signal comes, or until whoever holds the other end of a pipe is gone.

    Args:
        parent: the descriptor of our end of that pipe.
    """
    uvicorn, protocol = _server()
    sys.setswitchinterval(SWITCH_S)
    settle_garbage()
    logger = logging.getLogger("uvicorn")
    logger.handlers, logger.propagate = [JsonLines(logging.WARNING)], False
    config = uvicorn.Config(
        app,
        http=_guarded(protocol, limits),
        ws="none",
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=STOPPING_S,
    )
    server = uvicorn.Server(config)

    async def answer() -> None:
        if parent is not None:
            asyncio.get_running_loop().add_reader(parent, _stop, server)
        await server.serve(sockets=[listening])

    if sys.platform == "win32":
        asyncio.run(answer())
    else:
        import uvloop

        uvloop.run(answer())


def _server() -> tuple[Any, Any]:
    try:
        import uvicorn
        from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
    except ImportError as error:
        raise MissingExtraError((error.name or "uvicorn").partition(".")[0], "serve", "A service") from error
    return uvicorn, HttpToolsProtocol


def _stop(server: Any) -> None:
    server.should_exit = True


def _guarded(protocol: Any, limits: Limits) -> Any:
    """A protocol that cuts off clients whose headers do not come, and refuses more connections than are taken."""

    class Guarded(protocol):
        _waiting: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            if len(self.connections) > limits.connections:
                transport.write(REFUSED)
                transport.close()
                return
            self._wait()

        def send_400_response(self, msg: str) -> None:
            self.transport.write(INVALID)
            self.transport.close()

        def on_message_begin(self) -> None:
            super().on_message_begin()
            self._wait()

        def on_headers_complete(self) -> None:
            self._done()
            super().on_headers_complete()

        def connection_lost(self, exc: Exception | None) -> None:
            self._done()
            super().connection_lost(exc)

        def _wait(self) -> None:
            self._done()
            self._waiting = self.loop.call_later(limits.slow_client_s, self._cut)

        def _done(self) -> None:
            if self._waiting is not None:
                self._waiting.cancel()
                self._waiting = None

        def _cut(self) -> None:
            self.transport.abort()

    return Guarded
