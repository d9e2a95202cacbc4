"""Who may speak to the web servers of the agent.

Three things are checked of each request and each WebSocket, before the application sees it:

- ``Host``: a page from elsewhere can have its own name resolved to this machine (DNS rebinding), so only addresses
  and names that are ours are answered.
- ``Origin`` and ``Sec-Fetch-Site`` of WebSockets and of everything that is not a mere look: a browser sends both with
  what a page from elsewhere asks for (RFC 6455 section 10.2; Fetch Metadata Request Headers, W3C).
- the token, where there is one: in ``Authorization: Bearer`` (RFC 6750), or in the cookie that a browser was given
  for opening a page once with ``?token=…``.
"""

from __future__ import annotations

import hashlib
import hmac
import html
import socket
from collections.abc import Collection
from http.cookies import CookieError, SimpleCookie
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE_AGE_S = 30 * 86400
LOOKS = ("GET", "HEAD", "OPTIONS")
"""Methods that change nothing (RFC 9110 section 9.2.1)."""
KEPT = {
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-resource-policy": b"same-origin",
    b"cross-origin-opener-policy": b"same-origin",
    b"cache-control": b"no-store",
}
"""Headers of every answer, unless the application says otherwise: pages from elsewhere get nothing of it to show."""


class Guard:
    """An ASGI application that lets through to ``app`` what may pass."""

    def __init__(self, app: ASGIApp, *, token: str | None, names: Collection[str], cookie: str) -> None:
        """``names`` are those that a ``Host`` may say besides any address; ``cookie`` is the name of the cookie."""
        self._app = app
        self._token = token
        self._names = frozenset(name.lower() for name in names)
        self._cookie = cookie
        # Follows from the token, so that it outlives a restart and not a new token, but does not tell it.
        self._pass = hmac.new((token or "").encode(), b"attune browser", hashlib.sha256).hexdigest()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin1"): value.decode("latin1") for name, value in scope["headers"]}
        if refusal := self._refusal(scope, headers):
            await _refuse(scope, send, *refusal)
        elif self._token is None or self._known(headers):
            await self._app(scope, receive, _with_headers(send))
        elif scope["type"] == "http" and scope["method"] == "GET" and self._introduced(scope):
            await self._let_in(scope, send)
        else:
            said = "a token is needed: Authorization: Bearer TOKEN, or open the page once with ?token=TOKEN\n"
            await _refuse(scope, send, 401, said)

    def _refusal(self, scope: Scope, headers: dict[str, str]) -> tuple[int, str] | None:
        """Status and reason where the request is for another machine, or comes from another site."""
        host = headers.get("host", "")
        if not self._ours(host):
            return 421, f"this is not {host!r}; if it is, add the name to hosts in the config\n"
        if scope["type"] == "http" and scope["method"] in LOOKS:
            return None
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc.lower() != host.lower():
            return 403, f"not for pages from {origin}\n"
        if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return 403, "not for pages from elsewhere\n"
        return None

    def _ours(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        return name in self._names or _is_address(name)

    def _known(self, headers: dict[str, str]) -> bool:
        scheme, _, shown = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and self._is_token(shown.strip()):
            return True
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(self._cookie)
        except CookieError:
            return False
        return cookie is not None and hmac.compare_digest(cookie.value.encode(), self._pass.encode())

    def _introduced(self, scope: Scope) -> bool:
        return any(name == "token" and self._is_token(value) for name, value in _query(scope))

    def _is_token(self, shown: str) -> bool:
        return hmac.compare_digest(shown.encode(), (self._token or "").encode())

    async def _let_in(self, scope: Scope, send: Send) -> None:
        """Give the browser its cookie, and send it on to the same page without the token.

        By a page and not by a redirect: after one that began on another site, such as a link in a mail, a browser
        keeps a SameSite=Strict cookie to itself.
        """
        rest = urlencode([(name, value) for name, value in _query(scope) if name != "token"])
        onward = html.escape("/" + quote(scope["path"].lstrip("/")) + (f"?{rest}" if rest else ""))
        cookie = f"{self._cookie}={self._pass}; Max-Age={COOKIE_AGE_S}; Path=/; HttpOnly; SameSite=Strict"
        page = f'<!doctype html><meta http-equiv="refresh" content="0;url={onward}"><a href="{onward}">on</a>'
        extra = [(b"set-cookie", cookie.encode()), (b"content-security-policy", b"default-src 'none'")]
        await _answer(send, 200, page, kind="text/html", extra=extra)


def own_names(hosts: Collection[str], *, loopback: bool) -> set[str]:
    """The names by which this machine may be asked for: on loopback nobody but this machine says which they are."""
    host = socket.gethostname().lower()
    return {"localhost", *hosts, *(() if loopback else (host, f"{host}.local"))}


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _query(scope: Scope) -> list[tuple[str, str]]:
    return parse_qsl(scope["query_string"].decode("latin1"), keep_blank_values=True)


def _with_headers(send: Send) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = list(message.get("headers", ()))
            said = {name.lower() for name, _ in headers}
            message["headers"] = [*headers, *(pair for pair in KEPT.items() if pair[0] not in said)]
        await send(message)

    return sent


async def _refuse(scope: Scope, send: Send, status: int, said: str) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close"})  # before it is accepted: the client is told status 403
        return
    await _answer(send, status, said, extra=[(b"www-authenticate", b'Bearer realm="attune"')] if status == 401 else [])


async def _answer(
    send: Send, status: int, body: str, *, kind: str = "text/plain", extra: Collection[tuple[bytes, bytes]] = ()
) -> None:
    content = body.encode("utf-8", "replace")
    headers = [
        (b"content-type", f"{kind}; charset=utf-8".encode()),
        (b"content-length", str(len(content)).encode()),
        *KEPT.items(),
        *extra,
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
