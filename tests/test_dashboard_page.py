"""The page of the dashboard in a real browser."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio
from axe_playwright_python.base import AXE_FILE_PATH
from playwright.async_api import Browser

from agent.clock import SECOND, RealClock
from agent.types import Absence, Audio, Frame, Sample, Text
from tests.browser import AUDIO, TEXT, VISION, Shown, browsing, opened, serving, shown
from tests.mosquitto import free_port, mosquitto
from tests.outside import agent, watching

pytestmark = pytest.mark.asyncio(loop_scope="module")
STYLE = Path(__file__).parent.parent / "agent" / "dashboard" / "static" / "style.css"
LOOK = """() => JSON.stringify({
    seq: +document.getElementById("answer").dataset.seq,
    label: document.getElementById("label-text").textContent,
    sure: document.getElementById("sure").textContent,
})"""
LABELS = ("neutral", "happy", "sad", "angry", "fearful", "disgusted", "surprised")
ATTACK = "<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with browsing() as found:
        yield found


def sample(payload: Text | Frame | Audio, source: str) -> Sample:
    now_ns = RealClock().now_ns()
    return Sample(source, payload, now_ns, now_ns, now_ns)


def fill(at: Shown, *, labels: tuple[str, ...] = ("neutral", "happy", "sad")) -> None:
    """A little of everything."""
    now_ns = RealClock().now_ns()
    for seq in range(20):
        ago_ns = (20 - seq) * SECOND
        missing = {VISION: Absence.FAILED, AUDIO: Absence.LATE} if seq % 3 else {AUDIO: Absence.SILENT}
        said = {m: labels[seq % 3] for m in (VISION, AUDIO, TEXT) if m not in missing}
        at.dashboard.decided(
            shown(seq, label=labels[seq // 7], said=said, missing=missing, labels=labels, end_ns=now_ns - ago_ns)
        )
    at.dashboard.decided(shown(20, labels=labels))
    at.dashboard.fed(sample(Text("What a wonderful day, and what a long sentence somebody has typed! " * 3), "text"))
    since = {"id": "e1", "label": "happy", "confidence": 0.8, "since": "2026-01-01T00:00:00.000Z"}
    at.dashboard.event({"type": "new", **since})
    picture = np.full((240, 320, 3), 120, np.uint8)
    at.dashboard.fed(sample(Frame(picture), "camera"))
    at.dashboard.fed(sample(Audio(np.zeros(1600, np.float32)), "microphone"))


async def test_it_shows_the_answer_and_what_it_was_made_of(browser: Browser) -> None:
    async with serving() as at, opened(browser, at.url) as found:
        await found.says("link-text", "Live")
        fill(at)
        await found.until("() => document.getElementById('answer').dataset.seq === '20'")
        await found.says("label-text", "happy")
        await found.says("sure", "80% sure")
        await found.says("node", "kiosk")
        assert await found.page.locator("#fused li").all_inner_texts() == [
            "neutral\n10%", "happy\n80%", "sad\n10%",
        ]  # fmt: skip
        shares = [re.sub(r"\s+", " ", text) for text in await found.page.locator("#shares li").all_inner_texts()]
        assert shares == ["Vision 50% Weight 0.60", "Audio 50% Weight 0.60", "Text silent"]
        assert await found.page.locator("#vision .own").inner_text() == "happy 70%"
        assert await found.page.locator("#audio .bars li").all_inner_texts() == [
            "neutral\n15%", "happy\n15%", "sad\n70%",
        ]  # fmt: skip
        assert await found.page.locator("#text .caption").inner_text() == "Nothing was typed or said"
        assert "wonderful day" in await found.page.locator("#sayings").inner_text()
        assert await found.page.locator("#engines div").first.inner_text() == "Vision\nface.onnx on some engine 1.0"
        assert "camera.late" in await found.page.locator("#dropped").inner_text()
        assert await found.page.locator("#event-count").inner_text() == "1"
        await found.says("speech", "Somebody speaks: 75%")
        await found.until("() => document.getElementById('no-picture').hidden")
        await found.says("camera-text", "camera · one face")
        assert "12 ms" in await found.page.locator("#latency-text").inner_text()
        await found.until("() => drawn('timeline') && drawn('spectrogram') && drawn('latency') && drawn('picture')")
        assert not found.complaints


async def test_what_people_send_stays_text(browser: Browser) -> None:
    labels = ("constructor", ATTACK, "pause")
    async with serving(labels) as at, opened(browser, at.url) as found:
        await found.says("link-text", "Live")
        at.dashboard.decided(shown(label=ATTACK, said={VISION: ATTACK, AUDIO: ATTACK}, labels=labels))
        at.dashboard.fed(sample(Text(ATTACK, ATTACK), ATTACK))
        at.dashboard.event({"type": "new", "id": "1", "label": ATTACK, "confidence": 1, "since": ATTACK})
        await found.says("label-text", ATTACK)
        await found.until("words => document.getElementById('sayings').textContent.includes(words)", ATTACK)
        await found.until("words => document.getElementById('events').textContent.includes(words)", ATTACK)
        assert await found.page.locator("#fused .name").all_inner_texts() == list(labels)
        assert await found.page.title() == "Attune · kiosk"
        assert await found.page.locator("main img, main script").count() == 0
        assert not found.complaints


async def test_it_comes_back_by_itself_when_the_agent_does(browser: Browser) -> None:
    async with AsyncExitStack() as stack:
        async with serving() as at:
            found = await stack.enter_async_context(opened(browser, at.url))
            await found.says("link-text", "Live")
            at.dashboard.decided(shown(5))
            await found.says("label-text", "happy")
        await found.until("() => document.getElementById('link-text').textContent.includes('Next try in')")
        async with serving(listen=str(at.at)) as again:
            again.dashboard.decided(shown(0, label="sad"))
            await found.says("link-text", "Live")
            await found.says("label-text", "sad")
            assert await found.page.locator("#toast").inner_text() == "The agent has been restarted"
            again.dashboard.decided(shown(1, label="neutral"))
            await found.says("label-text", "neutral")
    assert all("ERR_CONNECTION_REFUSED" in said or "WebSocket" in said for said in found.complaints)


@pytest.mark.parametrize("lang", ["en-GB", "zh-CN"])
async def test_nothing_reaches_beyond_the_page(browser: Browser, lang: str) -> None:
    async with serving(LABELS) as at, opened(browser, at.url, lang=lang) as found:
        await found.until("() => document.getElementById('link').dataset.state === 'live'")
        fill(at, labels=LABELS)
        await found.until("() => document.getElementById('answer').dataset.seq === '20'")
        for width in (320, 390, 768, 1024, 1920):
            await found.page.set_viewport_size({"width": width, "height": 800})
            await found.until("() => drawn('timeline')")
            assert await found.page.evaluate("document.documentElement.scrollWidth") == width
        assert not found.complaints


@pytest.mark.parametrize(("theme", "lang", "width"), [("light", "en-GB", 1280), ("dark", "zh-CN", 390)])
async def test_axe_finds_nothing_wrong(browser: Browser, theme: str, lang: str, width: int) -> None:
    async with (
        serving(LABELS) as at,
        opened(browser, at.url, width=width, lang=lang, color_scheme=theme, reduced_motion="reduce") as found,
    ):
        await found.until("() => document.getElementById('link').dataset.state === 'live'")
        fill(at, labels=LABELS)
        await found.until("() => document.getElementById('answer').dataset.seq === '20'")
        await found.page.locator("summary").click()
        await found.page.evaluate(AXE_FILE_PATH.read_text(encoding="utf-8"))
        result = await found.page.evaluate("() => axe.run({resultTypes: ['violations']})")
        wrong = [
            (rule["id"], node["html"][:120], node["failureSummary"][:200])
            for rule in result["violations"]
            for node in rule["nodes"]
        ]
        assert not wrong
        assert len(result["passes"]) > 20


async def test_the_keyboard_reaches_everything_in_the_order_of_the_page(browser: Browser) -> None:
    async with serving() as at, opened(browser, at.url) as found:
        await found.says("link-text", "Live")
        fill(at)
        await found.until("() => document.getElementById('answer').dataset.seq === '20'")
        reached = []
        for _ in range(10):
            await found.page.keyboard.press("Tab")
            reached.append(await found.page.evaluate("named(document.activeElement)"))
            outline = await found.page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            assert outline == "solid", reached
        assert reached == [
            "Skip to the answer", "pause", "record", "language", "theme", "1 min", "5 min",
            "timeline", "Events 1", "sayings",
        ]  # fmt: skip


async def test_the_timeline_tells_of_the_window_that_the_keys_choose(browser: Browser) -> None:
    async with serving() as at, opened(browser, at.url) as found:
        await found.says("link-text", "Live")
        fill(at)
        await found.until("() => document.getElementById('answer').dataset.seq === '20'")
        slider = found.page.get_by_role("slider", name="Window to look at")
        await slider.focus()
        assert (
            await found.page.locator("#readout").inner_text()
            == "Live: choose a window with the pointer or the arrow keys"
        )
        await slider.press("ArrowLeft")
        said = await found.page.locator("#readout").inner_text()
        assert said.endswith("sad 80% · Conflict 25% · Vision failed · Audio late · Text happy 70% · 12 ms")
        assert await slider.get_attribute("aria-valuetext") == said
        assert await slider.get_attribute("aria-valuenow") == "19"
        await slider.press("Home")
        assert await slider.get_attribute("aria-valuenow") == "0"
        await slider.press("End")
        assert "Live" in await found.page.locator("#readout").inner_text()


async def test_the_buttons_ask_the_agent_and_say_what_came_of_it(browser: Browser) -> None:
    async with serving() as at, opened(browser, at.url) as found:
        await found.says("link-text", "Live")
        fill(at)
        await found.until("() => document.getElementById('no-picture').hidden")
        await found.page.get_by_role("button", name="Pause").click()
        await found.says("toast", "Paused: all inputs are closed")
        await found.says("link-text", "Paused: nothing is sensed")
        await found.until("() => !drawn('picture')")
        await found.says("no-picture", "Paused: nothing is sensed")
        await found.page.get_by_role("button", name="Resume").click()
        await found.says("link-text", "Live")
        await found.page.get_by_role("button", name="Record").click()
        await found.says("toast", "Not done: the disk is full")
        assert at.buttons.asked == [("pause", b""), ("resume", b""), ("record", b"start")]
        assert [said for said in found.complaints if "400" not in said] == []


async def test_language_and_theme_follow_the_browser_and_the_choice_which_lasts(browser: Browser) -> None:
    async with serving() as at, opened(browser, at.url, lang="zh-CN", color_scheme="dark") as found:
        await found.says("link-text", "实时")
        at.dashboard.decided(shown())
        await found.says("label-text", "高兴")
        dark = await found.page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
        await found.page.locator("#language").select_option("en")
        await found.says("label-text", "happy")
        await found.says("link-text", "Live")
        await found.page.locator("#theme").select_option("light")
        light = await found.page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
        assert (dark, light) == ("rgb(13, 15, 19)", "rgb(243, 244, 247)")
        await found.page.reload()
        await found.says("label-text", "happy")
        assert await found.page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == light
        assert await found.page.evaluate("document.documentElement.lang") == "en"


async def test_both_languages_say_the_same_things(browser: Browser) -> None:
    words = (STYLE.parent / "words.js").read_text(encoding="utf-8")
    english, chinese = re.findall(r"const (?:EN|ZH) = \{(.*?)\n\};", words, re.S)
    keys = [set(re.findall(r'(?:^|[,{]\s*|\n\s*)"?([\w.-]+)"?: "', block)) for block in (english, chinese)]
    assert len(keys[0]) > 90
    assert keys[0] == keys[1]
    asked = set(re.findall(r'data-t(?:-label)?="([\w.-]+)"', (STYLE.parent / "index.html").read_text(encoding="utf-8")))
    assert asked <= keys[0]


async def test_a_token_opens_the_page_once_and_stays_out_of_its_address(
    browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DASHBOARD_TOKEN", "sixteen-and-more-characters")
    async with serving(token="${DASHBOARD_TOKEN}") as at:
        async with opened(browser, at.url) as stranger:
            assert "a token is needed" in await stranger.page.locator("body").inner_text()
        async with opened(browser, f"{at.url}?token=sixteen-and-more-characters") as found:
            await found.says("link-text", "Live")
            assert found.page.url == at.url
            at.dashboard.decided(shown())
            await found.says("label-text", "happy")


async def test_a_page_that_nobody_sees_asks_for_no_pictures(browser: Browser) -> None:
    async with serving() as at, opened(browser, at.url) as found:
        await found.says("link-text", "Live")
        await found.page.evaluate("Object.defineProperty(document, 'hidden', {value: true})")
        await found.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        async with asyncio.timeout(30):
            while at.dashboard._audience.watches:
                await found.page.evaluate("1")


async def test_the_demo_on_the_page_is_the_demo_over_mqtt(browser: Browser, tmp_path: Path) -> None:
    mqtt, port = free_port(), free_port()
    words = ("--set", f"mqtt.broker=mqtt://127.0.0.1:{mqtt}", "--set", f"dashboard.listen=127.0.0.1:{port}")
    async with mosquitto(mqtt, tmp_path), watching(mqtt) as watcher, agent("demo", *words) as process:
        await watcher.until_decision(lambda decision: True)
        async with opened(browser, f"http://127.0.0.1:{port}/") as found:
            await found.says("link-text", "Live")
            await found.until("() => document.getElementById('camera-text').textContent.includes('one face')")
            await found.until("() => drawn('picture') && drawn('spectrogram') && drawn('timeline')")
            await found.until("() => document.getElementById('sayings').textContent.includes('wonderful day')")
            seen = json.loads(await found.page.evaluate(LOOK))
            published = await watcher.until_decision(lambda decision: decision["seq"] == seen["seq"])
            assert seen["label"] == (published["label"] or "Not sure")
            percent = re.search(r"\d+", seen["sure"])
            assert percent
            assert abs(100 * published["confidence"] - int(percent[0])) <= 1
            assert not found.complaints
        process.terminate()
        assert await process.wait() == 0
