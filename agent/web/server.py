"""A web server inside the agent's process: one for the dashboard, one for health and metrics.

uvicorn serves, without taking over the process's signals or its log; `agent.web.guard` stands before the application.
Nothing of it is imported before `WebServer.run`.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from agent.config.scalars import Endpoint
from agent.config.served import Served
from agent.web.guard import Guard, own_names

if TYPE_CHECKING:
    import uvicorn
    from starlette.types import ASGIApp

log = logging.getLogger(__name__)

GRACE_S = 1
"""How long requests that are under way may take once the server is to stop."""
STOP_S = 3.0
"""After that long a stop no longer waits."""
CONNECTIONS = 64
"""At once, WebSockets included; who comes beyond them gets status 503."""
MESSAGE_BYTES = 64 * 1024
"""Of a WebSocket message that comes in, at most."""


class WebError(Exception):
    """A web server cannot listen where it was asked to. The message says why and what to do."""


class WebServer:
    """Serves an ASGI application, such as Starlette's, while `run` runs.

    ``app`` is called by `run` for the application, so that importing what it is made of may wait until then.
    """

    def __init__(self, table: str, settings: Served, app: Callable[[], ASGIApp]) -> None:
        """``table`` is the config's, for messages; ``settings.listen`` must say where."""
        if settings.listen is None:
            raise ValueError(f"[{table}] listen is off: there is nothing to serve")
        self._table = table
        self._settings = settings
        self._app = app
        self._asked = settings.listen
        self._serving: asyncio.Future[Endpoint] | None = None

    async def address(self) -> Endpoint:
        """Where it listens, with the port that it got; waits until it does. Ask while `run` runs, or soon will."""
        return await asyncio.shield(self._found())

    async def run(self) -> None:
        """Serve until cancelled, then let requests under way end, for `GRACE_S` at most. Raises `WebError`."""
        with await self._bind() as listener:
            at = Endpoint(self._asked.host, listener.getsockname()[1])
            server = self._server(at)
            serving = asyncio.create_task(server.serve([listener]), name=f"{self._table} server")
            log.info("[%s] serves on http://%s", self._table, at)
            self._found().set_result(at)
            try:
                await asyncio.shield(serving)  # uvicorn leaves at once when it is cancelled, and tidies up when asked
            finally:
                self._serving = None
                server.should_exit = True
                _, late = await asyncio.wait([serving], timeout=STOP_S)
                for task in late:
                    task.cancel()

    def _found(self) -> asyncio.Future[Endpoint]:
        if self._serving is None:
            self._serving = asyncio.get_running_loop().create_future()
        return self._serving

    def _server(self, at: Endpoint) -> uvicorn.Server:
        import uvicorn

        class Server(uvicorn.Server):
            @contextlib.contextmanager
            def capture_signals(self) -> Iterator[None]:
                yield  # they are the agent's

        logging.getLogger("uvicorn").setLevel(logging.WARNING)  # its INFO tells of each connection
        token = self._settings.token
        guard = Guard(
            self._app(),
            token=token.get_secret_value() if token else None,
            names=own_names(self._settings.hosts, loopback=at.loopback),
            cookie=f"attune-{self._table}-{at.port}",  # cookies know hosts, but no ports
        )
        return Server(
            uvicorn.Config(
                guard,
                interface="asgi3",
                http="h11",
                ws="websockets-sansio",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                limit_concurrency=CONNECTIONS,
                ws_max_size=MESSAGE_BYTES,
                ws_per_message_deflate=False,  # most of what is sent are pictures, and the road is short
                timeout_graceful_shutdown=GRACE_S,
            )
        )

    async def _bind(self) -> socket.socket:
        host, port = self._asked
        try:
            found = await asyncio.get_running_loop().getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )
            family, _, _, _, where = found[0]
            return socket.create_server(where[:2], family=family)
        except OSError as error:
            where_asked = f"[{self._table}] listen = {str(self._asked)!r}"
            if error.errno != errno.EADDRINUSE:
                raise WebError(f"{where_asked}: cannot listen there: {error.strerror}") from error
            raise WebError(
                f"{where_asked}: something else listens there already: probably another Attune, or a server of another"
                f" kind. Stop it, or take another port with --set {self._table}.listen={host}:{port + 1}"
            ) from None
