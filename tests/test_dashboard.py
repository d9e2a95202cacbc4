"""What the dashboard tells, and whom; the page itself is looked at in test_dashboard_page.py."""

import asyncio
import base64
import http.client
import json
import math
import socket
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from agent.clock import MS, SECOND, RealClock
from agent.config import Config
from agent.config.dashboard import Dashboard as Table
from agent.dashboard.audience import MOST
from agent.dashboard.history import History
from agent.dashboard.picture import SIDE, small_jpeg
from agent.dashboard.sound import BANDS, FRAME, HIGHEST_HZ, HOP, LOWEST_HZ, Ear
from agent.dashboard.viewer import MESSAGES, Viewer
from agent.types import AUDIO_RATE_HZ, Audio, Frame, Sample, Text, Watermark
from agent.web.server import WebError
from agent.window import SourceState
from tests.browser import AUDIO, VISION, Shown, serving, shown

Message = dict[str, Any]
TOKEN = "sixteen-and-more-characters"


@asynccontextmanager
async def page(at: Shown, **options: Any) -> AsyncIterator[ClientConnection]:
    async with asyncio.timeout(30), connect(f"ws://{at.at}/live", max_size=None, **options) as socket:
        yield socket


async def until(socket: ClientConnection, kind: str) -> Message:
    """The next message of a kind."""
    while True:
        told = await socket.recv()
        if isinstance(told, str) and (message := json.loads(told))["type"] == kind:
            return dict(message)


def frame(t_ns: int, height: int = 480, width: int = 640) -> Sample:
    picture = np.full((height, width, 3), 90, np.uint8)
    picture[:, : width // 2] = 200
    return Sample("camera", Frame(picture), t_ns, t_ns, t_ns)


def text(words: str, t_ns: int) -> Sample:
    return Sample("text", Text(words), t_ns, t_ns, t_ns)


async def test_who_comes_late_is_told_of_the_last_minutes_and_then_of_what_happens() -> None:
    async with serving() as at:
        now_ns = RealClock().now_ns()
        for seq in range(3):
            at.dashboard.decided(shown(seq, end_ns=now_ns - (3 - seq) * SECOND))
        at.dashboard.fed(text("good morning", now_ns - SECOND))
        at.dashboard.fed(Watermark("text", now_ns))
        at.dashboard.marked("camera", SourceState.LIVE)
        at.dashboard.marked("camera", SourceState.FAILED)
        at.dashboard.event({"type": "new", "id": "a", "label": "happy", "time_ns": str(1_700_000_000 * SECOND)})
        async with page(at) as socket:
            hello = json.loads(await socket.recv())
            history = json.loads(await socket.recv())
            assert hello["type"] == "hello"
            assert (hello["v"], hello["node"], hello["labels"]) == (1, "kiosk", ["neutral", "happy", "sad"])
            assert hello["preview"] is True
            assert hello["encoders"]["vision"]["about"] == "face.onnx on some engine 1.0"
            assert hello["encoders"]["audio"]["about"] is None
            assert [point["seq"] for point in history["points"]] == [0, 1, 2]
            assert history["points"][0]["m"] == {
                "vision": ["happy", 0.7, 0.5], "audio": ["sad", 0.7, 0.5], "text": "silent",
            }  # fmt: skip
            assert [saying["text"] for saying in history["sayings"]] == ["good morning"]
            states = [event["event"].get("state") for event in history["events"]]
            assert states == ["failed"], "what was known before is no news, and what is too old is not told"
            assert (await until(socket, "decision"))["decision"]["seq"] == 2
            at.dashboard.decided(shown(3))
            told = await until(socket, "decision")
            assert told["decision"]["seq"] == told["point"]["seq"] == 3
            assert told["posteriors"]["vision"] == pytest.approx({"neutral": 0.15, "happy": 0.7, "sad": 0.15})
            assert told["regions"][0]["box"] == [0.4, 0.2, 0.6, 0.6]
            assert told["speech"] == 0.75
            at.dashboard.fed(text("hello", RealClock().now_ns()))
            assert (await until(socket, "saying"))["text"] == "hello"
            metrics = await until(socket, "metrics")
            assert metrics["dropped"] == {"camera.late": 7}
            assert metrics["paused"] is False


async def test_a_long_text_is_shown_in_part_and_half_a_character_breaks_nothing() -> None:
    async with serving() as at, page(at) as socket:
        at.dashboard.fed(text("half \ud83d", RealClock().now_ns()))
        assert (await until(socket, "saying"))["text"] == "half \ud83d"
        at.dashboard.fed(text("x" * 60_000, RealClock().now_ns()))
        assert (await until(socket, "saying"))["text"] == "x" * 2_000 + "…"


async def test_pictures_are_made_only_while_a_page_wants_them_and_are_small() -> None:
    async with serving() as at:
        at.dashboard.fed(frame(RealClock().now_ns()))
        async with page(at) as socket:
            await until(socket, "hello")
            t_ns = RealClock().now_ns()
            at.dashboard.fed(frame(t_ns))
            told = await socket.recv()
            while isinstance(told, str):
                told = await socket.recv()
            assert told[:4] == bytes([1, 1, 0, len("camera")])
            assert told[12:18] == b"camera"
            jpeg = cv2.imdecode(np.frombuffer(told[18:], np.uint8), cv2.IMREAD_COLOR)
            assert jpeg is not None
            assert jpeg.shape == (360, SIDE, 3)
            assert abs(int(jpeg[10, 10, 0]) - 200) < 5
            await socket.send('{"type":"look","pictures":false}')
            await socket.ping()
            while at.dashboard._audience.watches:
                await socket.recv()
            at.dashboard.fed(frame(RealClock().now_ns()))
            assert not at.dashboard._painter._newest


async def test_a_picture_without_pixels_is_counted_and_the_next_is_shown() -> None:
    async with serving() as at, page(at) as socket:
        await until(socket, "hello")
        now_ns = RealClock().now_ns()
        at.dashboard.fed(Sample("broken", Frame(np.zeros((0, 4, 3), np.uint8)), now_ns, now_ns, now_ns))
        at.dashboard.fed(frame(now_ns))
        told = await socket.recv()
        while isinstance(told, str):
            told = await socket.recv()
        assert told[12:18] == b"camera"
        assert at.metrics.counts["dashboard.dropped"] == 1


@pytest.mark.parametrize("table", [{"preview": False}, {"listen": "0.0.0.0:0", "token": "${DASHBOARD_TOKEN}"}])
async def test_no_picture_leaves_unless_it_is_switched_on(
    table: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DASHBOARD_TOKEN", TOKEN)
    async with serving(**table) as at:
        url = f"ws://127.0.0.1:{at.at.port}/live"
        async with asyncio.timeout(30), connect(url, additional_headers={"Authorization": f"Bearer {TOKEN}"}) as socket:
            assert (await until(socket, "hello"))["preview"] is False
            at.dashboard.fed(frame(RealClock().now_ns()))
            assert not at.dashboard._painter._newest
    assert Table.model_validate(table | {"preview": True}).shows_pictures


async def test_sound_is_told_as_level_and_columns() -> None:
    async with serving() as at, page(at) as socket:
        await until(socket, "hello")
        t_ns = RealClock().now_ns()
        pcm = np.full(HOP, 0.1, np.float32)
        at.dashboard.fed(Sample("microphone", Audio(pcm), t_ns - 50 * MS, t_ns, t_ns))
        sound = await until(socket, "sound")
        assert sound["source"] == "microphone"
        assert sound["rms"] == sound["peak"] == -20.0
        assert len(base64.b64decode(sound["columns"])) == BANDS


async def test_a_page_that_says_what_it_may_not_is_closed() -> None:
    async with serving() as at:
        for nonsense in ("{", "[]", '{"type":"look"}', '{"type":"look","pictures":1}', "1" * 1_000, "[" * 60_000):
            async with page(at) as socket:
                await socket.send(nonsense)
                with suppress(ConnectionClosed):
                    async for _ in socket:
                        pass
                assert socket.close_code == 1007
        assert not at.dashboard._audience


async def test_one_page_too_many_is_refused() -> None:
    async with serving() as at, asyncio.timeout(30):
        pages = [await connect(f"ws://{at.at}/live") for _ in range(MOST)]
        for each in pages:
            await until(each, "hello")
        async with page(at) as socket:
            with pytest.raises(ConnectionClosed) as closed:
                await socket.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1013
        for each in pages:
            await each.close()


async def test_a_page_that_does_not_read_costs_its_own_messages_and_nothing_else() -> None:
    async with serving() as at, page(at) as reader:
        stuck = socket.create_connection(at.at)
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        key = base64.b64encode(bytes(16)).decode()
        stuck.sendall(
            f"GET /live HTTP/1.1\r\nHost: {at.at}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        await until(reader, "history")
        while len(at.dashboard._audience._viewers) < 2:
            await until(reader, "metrics")
        seen = 0
        while not at.metrics.counts["dashboard.dropped"]:
            at.dashboard.fed(text("x" * 2_000, RealClock().now_ns()))
            await until(reader, "saying")
            seen += 1
        assert seen > MESSAGES
        stuck.close()


async def test_a_queue_keeps_the_newest_in_order_and_counts_what_gave_way() -> None:
    gone: Counter[str] = Counter()
    viewer = Viewer(left_out=lambda: gone.update(["message"]))
    for n in range(MESSAGES + 3):
        viewer.tell(str(n))
    for picture in (b"old", b"new"):
        viewer.show("camera", picture)
    viewer.show("door", b"other")
    sent: list[str | bytes] = []
    enough = asyncio.Event()

    async def take(message: str | bytes) -> None:
        sent.append(message)
        if len(sent) == MESSAGES + 2:
            enough.set()

    pumping = asyncio.create_task(viewer.pump(take, take))
    async with asyncio.timeout(10):
        await enough.wait()
    pumping.cancel()
    assert gone["message"] == 3
    assert sent == [*(str(n) for n in range(3, MESSAGES + 3)), b"new", b"other"]


async def test_commands_reach_the_agent_and_its_answer_the_page() -> None:
    async with serving() as at:
        assert await asked(at, "POST", "/api/cmd/pause", headers={"Origin": f"http://{at.at}"}) == (
            200,
            {"ok": True, "said": "done"},
        )
        assert at.buttons.paused
        status, reply = await asked(at, "POST", "/api/cmd/record", body=b"start")
        assert (status, reply) == (400, {"ok": False, "said": "the disk is full"})
        assert (await asked(at, "POST", "/api/cmd/pause", body=b"x" * 70_000))[0] == 413
        assert (await asked(at, "GET", "/api/cmd/pause"))[0] == 405
        assert at.buttons.asked == [("pause", b""), ("record", b"start")]


async def test_pages_from_elsewhere_get_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DASHBOARD_TOKEN", TOKEN)
    async with serving() as at:
        with pytest.raises(InvalidStatus) as refused:
            async with page(at, origin="http://evil.example"):
                pass
        assert refused.value.response.status_code == 403
        status, _ = await asked(at, "POST", "/api/cmd/pause", headers={"Origin": "http://evil.example"})
        assert status == 403
        assert (await asked(at, "GET", "/", headers={"Host": "evil.example"}))[0] == 421
        assert not at.buttons.asked
    async with serving(token="${DASHBOARD_TOKEN}") as at:
        with pytest.raises(InvalidStatus) as refused:
            async with page(at):
                pass
        assert refused.value.response.status_code == 403
        assert (await asked(at, "GET", "/static/app.js"))[0] == 401
        async with page(at, additional_headers={"Authorization": f"Bearer {TOKEN}"}) as socket:
            await until(socket, "hello")


async def test_nothing_but_the_page_and_its_parts_is_served() -> None:
    async with serving() as at:
        for path in ("/static/../companion.py", "/static/%2e%2e/companion.py", "/static/", "/etc/passwd", "/live"):
            assert (await asked(at, "GET", path))[0] in (404, 405), path


async def test_a_port_that_is_taken_is_an_error_where_it_was_asked_for() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ExceptionGroup) as failed:
            await unserved(listen=listen)
        assert failed.group_contains(WebError)


def test_it_is_on_in_the_demo_alone_unless_told_otherwise() -> None:
    assert Config().dashboard.wanted(demo=True)
    assert not Config().dashboard.wanted(demo=False)
    assert Table.model_validate({"enabled": True}).wanted(demo=False)
    assert not Table.model_validate({"enabled": False}).wanted(demo=True)
    assert not Table.model_validate({"listen": "off"}).wanted(demo=True)
    with pytest.raises(ValidationError, match="token"):
        Table.model_validate({"listen": "0.0.0.0:8765"})


def test_history_keeps_the_last_minutes_and_no_more_than_it_may() -> None:
    history = History(10_000)
    for n in range(30):
        history.add("points", {"t": 1_000 * n})
    for n in range(300):
        history.add("sayings", {"t": 20_000 + n})
    kept = history.all(29_000)
    assert [point["t"] for point in kept["points"]] == list(range(19_000, 30_000, 1_000))
    assert [saying["t"] for saying in kept["sayings"]] == list(range(20_100, 20_300))
    assert history.all(60_000)["points"] == []


@given(st.lists(st.integers(1, 3_000), min_size=1, max_size=20))
def test_columns_do_not_depend_on_how_sound_is_cut_into_blocks(cuts: list[int]) -> None:
    pcm = np.random.default_rng(7).normal(0, 0.1, 12_000).astype(np.float32)
    whole, parts = Ear(), Ear()
    whole.hear(pcm)
    heard = whole.take()
    assert heard is not None
    columns, rest = b"", pcm
    for cut in [*cuts, len(pcm)]:
        parts.hear(rest[:cut])
        rest = rest[cut:]
        if told := parts.take():
            columns += base64.b64decode(told[2])
    assert columns == base64.b64decode(heard[2])
    assert len(columns) == 12_000 // HOP * BANDS


@pytest.mark.parametrize("hz", [125, 440, 1_000, 3_000, 6_000])
def test_a_tone_is_where_it_belongs(hz: int) -> None:
    t = np.arange(FRAME * 4) / AUDIO_RATE_HZ
    ear = Ear()
    ear.hear((0.1 * np.sin(2 * np.pi * hz * t)).astype(np.float32))
    heard = ear.take()
    assert heard is not None
    rms, peak, columns = heard
    assert (rms, peak) == pytest.approx((-23.0, -20.0), abs=0.2)
    last = np.frombuffer(base64.b64decode(columns), np.uint8)[-BANDS:]
    middles = np.linspace(mel(LOWEST_HZ), mel(HIGHEST_HZ), BANDS + 2)[1:-1]
    assert abs(int(last.argmax()) - int(np.abs(middles - mel(hz)).argmin())) <= 1


def test_sound_that_nobody_fetches_does_not_pile_up() -> None:
    ear = Ear()
    for _ in range(1_000):
        ear.hear(np.zeros(320, np.float32))
    assert ear._waiting <= Ear.KEEP + 320


@pytest.mark.parametrize(
    ("size", "small"),
    [((90, 160), (90, 160)), ((1080, 1920), (270, 480)), ((1920, 1080), (480, 270)), ((1, 9_000), (1, 480))],
)
def test_a_picture_is_made_small_and_never_larger(size: tuple[int, int], small: tuple[int, int]) -> None:
    jpeg = cv2.imdecode(np.frombuffer(small_jpeg(np.zeros((*size, 3), np.uint8)), np.uint8), cv2.IMREAD_COLOR)
    assert jpeg is not None
    assert jpeg.shape[:2] == small


def test_what_is_told_of_a_modality_is_its_own() -> None:
    assert {m: r.evidence.modality for m, r in shown().readings.items() if r.evidence} == {VISION: VISION, AUDIO: AUDIO}


def mel(hz: float) -> float:
    return 1127 * math.log1p(hz / 700)


async def unserved(**table: Any) -> None:
    async with serving(**table):
        pass


async def asked(
    at: Shown, method: str, path: str, *, body: bytes = b"", headers: dict[str, str] | None = None
) -> tuple[int, Any]:
    """Status and JSON (None where it is none) of a request."""

    def ask() -> tuple[int, Any]:
        connection = http.client.HTTPConnection(*at.at, timeout=30)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            content = response.read()
            return response.status, json.loads(content) if content[:1] == b"{" else None
        finally:
            connection.close()

    return await asyncio.to_thread(ask)
