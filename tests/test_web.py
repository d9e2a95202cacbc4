"""The web server, over real sockets: who is let in, who is not, and how it comes and goes."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from agent.config import ConfigError, Metrics, load
from agent.config.scalars import Endpoint, parse_listen
from agent.web.server import WebError, WebServer

TOKEN = "correct-horse-battery"


def application() -> Starlette:
    async def said(request: Request) -> PlainTextResponse:
        return PlainTextResponse(f"{request.method} {request.url.path}?{request.url.query}")

    async def forever(request: Request) -> PlainTextResponse:
        await asyncio.Event().wait()
        raise AssertionError

    async def echo(socket: WebSocket) -> None:
        await socket.accept()
        async for text in socket.iter_text():
            await socket.send_text(text)

    return Starlette(
        routes=[
            Route("/forever", forever),
            WebSocketRoute("/echo", echo),
            Route("/{path:path}", said, methods=["GET", "POST"]),
        ]
    )


def settings(listen: str = "127.0.0.1:0", token: str | None = None, hosts: tuple[str, ...] = ()) -> Metrics:
    return Metrics.model_construct(listen=parse_listen(listen), token=token and _secret(token), hosts=hosts)


def _secret(token: str) -> object:
    from pydantic import SecretStr

    return SecretStr(token)


@contextlib.asynccontextmanager
async def serving(asked: Metrics) -> AsyncIterator[Endpoint]:
    server = WebServer("metrics", asked, application)
    task = asyncio.create_task(server.run())
    try:
        async with asyncio.timeout(20):
            yield await server.address()
    finally:
        task.cancel()
        await asyncio.wait([task])


@dataclass(frozen=True)
class Answer:
    status: int
    body: str
    headers: dict[str, str]


async def ask(at: Endpoint, path: str = "/", *, method: str = "GET", **headers: str) -> Answer:
    def exchange() -> Answer:
        connection = HTTPConnection("127.0.0.1", at.port, timeout=20)
        with contextlib.closing(connection):
            connection.request(method, path, headers={name.replace("_", "-"): said for name, said in headers.items()})
            response = connection.getresponse()
            told = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, response.read().decode(), told)

    return await asyncio.to_thread(exchange)


async def test_it_serves_on_a_free_port_and_pages_from_elsewhere_get_nothing_to_show() -> None:
    async with serving(settings()) as at:
        assert at.port > 0
        answer = await ask(at, "/page?x=1")
        assert (answer.status, answer.body) == (200, "GET /page?x=1")
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert "server" not in answer.headers
        async with connect(f"ws://{at}/echo") as socket:
            await socket.send("hello")
            assert await socket.recv() == "hello"


async def test_the_signals_stay_the_agents() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    async with serving(settings()):
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


async def test_a_stop_waits_neither_for_a_request_that_never_ends_nor_for_a_socket_that_stays_open() -> None:
    async with serving(settings()) as at, asyncio.timeout(20):
        hanging = asyncio.create_task(ask(at, "/forever"))
        socket = await connect(f"ws://{at}/echo")
        await socket.send("hello")
        await socket.recv()
    await socket.wait_closed()
    with contextlib.suppress(OSError):  # it may be told 500, or be cut off
        assert (await hanging).status == 500
    with pytest.raises(ConnectionRefusedError):
        await ask(at)


async def test_a_port_that_is_taken_says_what_to_do() -> None:
    async with serving(settings()) as at:
        with pytest.raises(WebError, match=rf"\[metrics\] listen = '{at}': something else .* --set metrics.listen="):
            await WebServer("metrics", settings(str(at)), application).run()


async def test_a_host_that_is_not_here_is_named() -> None:
    with pytest.raises(WebError, match=r"listen = '192.0.2.1:0': cannot listen there"):
        await WebServer("metrics", settings("192.0.2.1:0"), application).run()


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200), ("localhost:1", 200), ("[::1]:9", 200), ("kiosk.example", 200),
        ("evil.example", 421), ("127.0.0.1.evil.example", 421), ("[", 421), ("", 421),
    ],
)  # fmt: skip
async def test_only_our_own_names_are_answered(host: str, status: int) -> None:
    async with serving(settings(hosts=("kiosk.example",))) as at:
        assert (await ask(at, Host=host)).status == status


async def test_other_sites_may_neither_post_nor_open_sockets() -> None:
    async with serving(settings()) as at:
        here, elsewhere = f"http://{at}", "http://evil.example"
        assert (await ask(at, method="POST", Origin=here)).status == 200
        assert (await ask(at, method="POST")).status == 200
        for origin in (elsewhere, "null", f"http://127.0.0.1:{at.port + 1}"):
            assert (await ask(at, method="POST", Origin=origin)).status == 403
        assert (await ask(at, method="POST", Sec_Fetch_Site="cross-site")).status == 403
        async with connect(f"ws://{at}/echo", additional_headers={"Origin": here}):
            pass
        with pytest.raises(InvalidStatus):
            await connect(f"ws://{at}/echo", additional_headers={"Origin": elsewhere})


async def test_with_a_token_nobody_comes_in_without() -> None:
    async with serving(settings(token=TOKEN)) as at:
        for shown in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": TOKEN}, {"Cookie": "attune=1"}):
            answer = await ask(at, **shown)
            assert answer.status == 401
            assert answer.headers["www-authenticate"].startswith("Bearer")
        assert (await ask(at, "/?token=wrong")).status == 401
        assert (await ask(at, f"/?token={TOKEN}", method="POST")).status == 401
        with pytest.raises(InvalidStatus):
            await connect(f"ws://{at}/echo")
        assert (await ask(at, Authorization=f"Bearer {TOKEN}")).status == 200
        async with connect(f"ws://{at}/echo", additional_headers={"Authorization": f"Bearer {TOKEN}"}):
            pass


async def test_a_browser_shows_the_token_once_and_has_a_cookie_from_then_on() -> None:
    async with serving(settings(token=TOKEN)) as at:
        answer = await ask(at, f"//evil.example/\\x?a=1&token={TOKEN}&b=%22")
        assert answer.status == 200
        assert 'content="0;url=/evil.example/%5Cx?a=1&amp;b=%22"' in answer.body
        assert TOKEN not in answer.body
        cookie, *attributes = answer.headers["set-cookie"].split("; ")
        assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(attributes)
        assert TOKEN not in cookie
        assert (await ask(at, Cookie=cookie)).status == 200
        async with connect(f"ws://{at}/echo", additional_headers={"Cookie": cookie}):
            pass
    async with serving(settings(str(at), token="another" + TOKEN)) as again:
        assert (await ask(again, Cookie=cookie)).status == 401


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ('listen = "0.0.0.0:9464"', "metrics: token: is missing; listen = '0.0.0.0:9464' can be reached from other"),
        ('listen = "kiosk:9464"', "metrics: token: is missing"),
        ('listen = "127.0.0.1:9464"\ntoken = "${SHORT}"', "metrics: token: must have 16 characters or more"),
        ('listen = "127.0.0.1"', 'metrics.listen: must be "HOST:PORT"'),
        ('listen = "127.0.0.1:65536"', 'metrics.listen: must be "HOST:PORT"'),
        (f'listen = "{"x" * 64}:9464"', 'metrics.listen: must be "HOST:PORT"'),
        ("listen = 9464", 'metrics.listen: must be "HOST:PORT"'),
    ],
)
def test_the_config_says_what_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str, said: str
) -> None:
    monkeypatch.setenv("SHORT", "short")
    path = tmp_path / "config.toml"
    path.write_text(f"[metrics]\n{written}\n")
    with pytest.raises(ConfigError) as caught:
        load(path)
    assert any(said in line for line in caught.value.lines)
    assert "short" not in str(caught.value)


@pytest.mark.parametrize("written", ["127.0.0.1:9464", "[::1]:0", "localhost:80"])
def test_listening_on_loopback_needs_no_token(tmp_path: Path, written: str) -> None:
    path = tmp_path / "config.toml"
    path.write_text(f'[metrics]\nlisten = "{written}"\n')
    assert str(load(path).metrics.listen) == written


def test_off_listens_nowhere(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text('[metrics]\nlisten = "off"\n')
    assert load(path).metrics.listen is None
