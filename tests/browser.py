"""A real browser, and a dashboard that shows what a test says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from playwright.async_api import Browser, Page, async_playwright

from agent.clock import MS, SECOND, RealClock, WallClock
from agent.config import Config
from agent.config.dashboard import Dashboard as Table
from agent.config.scalars import Endpoint
from agent.control.commands import Reply
from agent.dashboard import Dashboard
from agent.fusion.base import Floats
from agent.health.metrics import Metrics
from agent.types import (
    Absence,
    Contribution,
    Decided,
    Decision,
    Evidence,
    Latency,
    Modality,
    Reading,
    Region,
    Window,
)
from tests.scripted import PRIOR

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
PATIENCE_MS = 30_000
HELPERS = """
    window.drawn = (id) => {
        const canvas = document.getElementById(id);
        const [width, height] = [canvas.width || 1, canvas.height || 1];
        const copy = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
        copy.drawImage(canvas, 0, 0);
        const { data } = copy.getImageData(0, 0, width, height);
        return new Set(new Uint32Array(data.buffer)).size > 3;
    };
    window.named = (element) => element.id || element.textContent.trim().replace(/\\s+/g, " ");
"""
"""What tests ask of a page: whether a canvas shows something, and how an element is called."""
VISION, AUDIO, TEXT = Modality
FACE = Region("camera", 0, (0.4, 0.2, 0.6, 0.6), ((0.45, 0.3), (0.55, 0.3), (0.5, 0.4), (0.5, 0.5)))
"""Where the face of `shown` is."""


@asynccontextmanager
async def browsing() -> AsyncIterator[Browser]:
    """Debian's Chromium, without a window and with a profile of its own."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
        try:
            yield browser
        finally:
            await browser.close()


@dataclass
class Opened:
    """A page, and everything it complained about."""

    page: Page
    complaints: list[str] = field(default_factory=list)

    async def until(self, condition: str, argument: object = None) -> None:
        """Wait until the JavaScript expression holds."""
        await self.page.wait_for_function(condition, arg=argument, timeout=PATIENCE_MS)

    async def says(self, identifier: str, text: str) -> None:
        """Wait until the element with this id says just that."""
        await self.until("([id, text]) => document.getElementById(id)?.textContent === text", [identifier, text])


@asynccontextmanager
async def opened(
    browser: Browser, url: str, *, width: int = 1280, lang: str = "en-GB", **options: Any
) -> AsyncIterator[Opened]:
    """The page in a profile of its own; ``options`` are those of a browser's context."""
    context = await browser.new_context(viewport={"width": width, "height": 800}, locale=lang, **options)
    context.set_default_timeout(PATIENCE_MS)
    await context.add_init_script(HELPERS)
    page = await context.new_page()
    found = Opened(page)
    page.on("console", lambda m: found.complaints.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: found.complaints.append(str(error)))
    try:
        await page.goto(url)
        yield found
    finally:
        await context.close()


class Buttons:
    """What the page's buttons act on; remembers what was asked."""

    def __init__(self) -> None:
        self.paused = self.recording = False
        self.asked: list[tuple[str, bytes]] = []

    async def handle(self, name: str, payload: bytes) -> Reply:
        self.asked.append((name, payload))
        match name, payload:
            case "pause", b"":
                self.paused = True
            case "resume", b"":
                self.paused = False
            case "record", b"start":
                return Reply(ok=False, said="the disk is full")
            case _:
                return Reply(ok=False, said=f"no command {name}")
        return Reply(ok=True, said="done")


class Described:
    """Stands for an encoder: all that a page is told of it is its line."""

    def __str__(self) -> str:
        return "faces to labels: face.onnx on some engine 1.0: picture float32[1]"


@dataclass
class Shown:
    """A dashboard that is served, and the address of its page."""

    dashboard: Dashboard
    at: Endpoint
    metrics: Metrics
    buttons: Buttons

    @property
    def url(self) -> str:
        return f"http://{self.at}/"


@asynccontextmanager
async def serving(labels: tuple[str, ...] = ("neutral", "happy", "sad"), **table: Any) -> AsyncIterator[Shown]:
    """Serve a dashboard with these settings, on a port that is free unless ``listen`` names one."""
    settings = Table.model_validate({"listen": "127.0.0.1:0", "enabled": True} | table)
    agent = Config().agent.model_copy(update={"labels": labels, "node": "kiosk"})
    config = Config().model_copy(update={"dashboard": settings, "agent": agent})
    metrics, buttons, wall = Metrics(), Buttons(), WallClock(tolerance_ns=MS)
    wall.read()
    dashboard = Dashboard(
        config,
        clock=RealClock(),
        wall=wall,
        metrics=metrics,
        dropped=lambda: {"camera.late": 7},
        encoders={VISION: Described()},
        control=buttons,
    )
    running = asyncio.create_task(dashboard.run())
    address = asyncio.create_task(dashboard.address())
    try:
        await asyncio.wait({running, address}, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            running.result()
        yield Shown(dashboard, address.result(), metrics, buttons)
    finally:
        address.cancel()
        running.cancel()
        await asyncio.wait([running])
        if not running.cancelled():
            running.result()


def shown(
    seq: int = 0,
    *,
    label: str | None = "happy",
    end_ns: int | None = None,
    said: Mapping[Modality, str] = {VISION: "happy", AUDIO: "sad"},
    missing: Mapping[Modality, Absence] = {TEXT: Absence.SILENT},
    labels: tuple[str, ...] = ("neutral", "happy", "sad"),
    speech: float | None = 0.75,
) -> Decided:
    """A decision with 80 % for its label, and of each modality in ``said`` 70 % for the label there."""
    end_ns = RealClock().now_ns() if end_ns is None else end_ns
    decision = Decision(
        session="test",
        seq=seq,
        start_ns=end_ns - SECOND,
        end_ns=end_ns,
        label=label,
        confidence=0.8 if label else 0.3,
        conflict=0.25,
        rule="bayes",
        probabilities=_spread(labels, label, 0.8),
        dimensions={"valence": 0.5},
        modalities={m: _contribution(m, own, 1 / len(said)) for m, own in said.items()},
        missing=missing,
        latency=Latency(MS, 10 * MS, MS, 12 * MS),
    )
    readings = {m: _reading(m, own, labels, end_ns, speech) for m, own in said.items()}
    return Decided(Window(end_ns - SECOND, end_ns, end_ns, True, {}, {}), readings, decision)


def _contribution(modality: Modality, label: str, share: float) -> Contribution:
    return Contribution(
        label=label,
        confidence=0.7,
        weight=0.6,
        quality=0.9,
        age_ns=20 * MS,
        contribution=share,
        source={VISION: "camera", AUDIO: "microphone", TEXT: "text"}[modality],
        engine="some",
        encode_ns=3 * MS,
        rivals={},
    )


def _reading(modality: Modality, label: str, labels: tuple[str, ...], end_ns: int, speech: float | None) -> Reading:
    probs: Floats = np.array(list(_spread(labels, label, 0.7).values()))
    evidence = Evidence(modality, "some", probs, PRIOR, 0.9, end_ns, "some")
    face = Region(FACE.source, end_ns, FACE.box, FACE.landmarks)
    return Reading(
        evidence,
        regions=(face,) if modality is VISION else (),
        speech=speech if modality is AUDIO else None,
    )


def _spread(labels: tuple[str, ...], top: str | None, p: float) -> dict[str, float]:
    if top is None:
        return dict.fromkeys(labels, 1 / len(labels))
    return {label: p if label == top else (1 - p) / (len(labels) - 1) for label in labels}
