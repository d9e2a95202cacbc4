"""The page, its parts, the WebSocket and the commands, as an ASGI application."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket, WebSocketDisconnect

from agent.control.commands import CommandHandler
from agent.dashboard.viewer import Viewer

STATIC = Path(__file__).parent / "static"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none';"
    " form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
"""What the page may do: load its own parts and talk to us, nothing else; no script or style stands in it."""
COMMAND_BYTES = 64 * 1024
NOT_UNDERSTOOD, TOO_MANY = 1007, 1013
"""Codes with which a WebSocket is closed (RFC 6455 section 7.4.1, and the registry of IANA)."""


def site(
    *, join: Callable[[], Viewer | None], leave: Callable[[Viewer], None], commands: CommandHandler | None
) -> Starlette:
    """The application; ``join`` gives a new page its queue, or None where there are too many."""

    async def page(request: Request) -> Response:
        return FileResponse(STATIC / "index.html", headers={"content-security-policy": POLICY})

    async def command(request: Request) -> Response:
        if commands is None:
            return JSONResponse({"ok": False, "said": "this agent takes no commands"}, status_code=501)
        body = b""
        try:
            async for chunk in request.stream():
                body += chunk
                if len(body) > COMMAND_BYTES:
                    return JSONResponse({"ok": False, "said": f"more than {COMMAND_BYTES} bytes"}, status_code=413)
        except ClientDisconnect:
            return Response()
        reply = await commands(request.path_params["name"], body)
        return JSONResponse({"ok": reply.ok, "said": reply.said}, status_code=200 if reply.ok else 400)

    async def live(socket: WebSocket) -> None:
        await socket.accept()
        viewer = join()
        if viewer is None:
            await socket.close(TOO_MANY, "too many pages are open already")
            return
        try:
            await _converse(socket, viewer)
        finally:
            leave(viewer)

    return Starlette(
        routes=[
            Route("/", page),
            Route("/api/cmd/{name}", command, methods=["POST"]),
            WebSocketRoute("/live", live),
            Mount("/static", StaticFiles(directory=STATIC)),
        ]
    )


async def _converse(socket: WebSocket, viewer: Viewer) -> None:
    """Send to the page what waits for it, and hear what it says, until it is closed."""
    sending = asyncio.create_task(viewer.pump(socket.send_text, socket.send_bytes), name="dashboard page")
    hearing = asyncio.create_task(_hear(socket, viewer), name="dashboard page's words")
    try:
        await asyncio.wait({sending, hearing}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (sending, hearing):
            task.cancel()
        for end in await asyncio.gather(sending, hearing, return_exceptions=True):
            if isinstance(end, Exception) and not isinstance(end, WebSocketDisconnect):
                raise end


async def _hear(socket: WebSocket, viewer: Viewer) -> None:
    async for message in socket.iter_text():
        if not viewer.asked(message):
            await socket.close(NOT_UNDERSTOOD, "not understood")
            return
