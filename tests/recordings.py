"""Agents that are recorded, with encoders that show each deviation: what they say depends on all they were given."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from agent.clock import MS, SECOND, Clock, VirtualClock, WallClock
from agent.config import Config
from agent.control.handler import Control
from agent.deciding.build import build_pipeline
from agent.deciding.pipeline import Pipeline, speech_source
from agent.fusion import LearnedHead
from agent.live import LiveAgent
from agent.recording.recorder import Recorder
from agent.seams import Encoder, EncoderError, Transcriber
from agent.types import (
    Audio,
    Decided,
    Evidence,
    Frame,
    Modality,
    Reading,
    Sample,
    Source,
    Text,
    Utterance,
    Watermark,
)
from sensors.session_mcap import McapSession
from tests.scripted import Echo, ScriptedSensor, Steps

SOURCES = (
    Source("camera", Modality.VISION),
    Source("microphone", Modality.AUDIO),
    Source("text", Modality.TEXT, late_by_ns=SECOND),
)
START_NS = 7_000_000_123
WALL_NS = 1_795_000_000 * SECOND
TURNS = 40
"""Turns of the loop in which everything that is due at one instant has been done."""


def settings(out: Path, budget: str = "none", **record: Any) -> Config:
    """A config that records there, every bit unless told otherwise."""
    table = {"out": str(out), "frames": "png", "audio": "float", "keep_free": "1 B", "flush": "100 ms"} | record
    return Config.model_validate(
        {"agent": {"node": "test", "hop": "500 ms", "budget": budget}, "record": table, "fusion": {"temperature": 1.0}}
    )


class Moody:
    """Says something else with every sample and every call; by the number of the call it may do more."""

    def __init__(self, modality: Modality, *, also: Callable[[int], None] = lambda call: None) -> None:
        self.modality = modality
        self.calls = 0
        self._also = also
        self._digest = 0

    def encode(self, samples: Sequence[Sample], end_ns: int) -> Reading:
        self.calls += 1
        for sample in samples:
            self._digest = zlib.crc32(raw(sample), self._digest)
        self._also(self.calls)
        rng = np.random.default_rng([self._digest, self.calls])
        newest = samples[-1]
        evidence = Evidence(
            self.modality, newest.source, rng.dirichlet(np.ones(7)), np.full(7, 1 / 7), 0.9, newest.end_ns, "moody"
        )
        spoken = self.modality is Modality.AUDIO and self.calls % 3 == 0
        utterance = Utterance("microphone", np.zeros(4, np.float32), newest.t_ns, newest.end_ns)
        return Reading(evidence, (utterance,) if spoken else ())

    def forget(self, source: str) -> None:
        self._digest = zlib.crc32(source.encode())

    def close(self) -> None:
        pass


def raw(sample: Sample) -> bytes:
    """All of a sample."""
    match sample.payload:
        case Frame(bgr):
            content = bgr.tobytes()
        case Audio(pcm):
            content = pcm.tobytes()
        case Text(text, lang, origin):
            content = f"{text} {lang} {origin}".encode()
    return content + f"{sample.source} {sample.t_ns} {sample.end_ns} {sample.arrival_ns}".encode()


def failing(*calls: int) -> Callable[[int], None]:
    """Fails in these calls."""

    def also(call: int) -> None:
        if call in calls:
            raise EncoderError("out of luck")

    return also


class MoodyParts:
    """As `agent.verbs.Parts`, as far as a replay asks."""

    def encoders(self, config: Config, sources: Iterable[Source]) -> tuple[dict[Modality, Encoder], Transcriber | None]:
        return {m: Moody(m) for m in Modality}, Echo("said again") if config.agent.transcribe else None

    def fusion(self, config: Config) -> LearnedHead | None:
        return None


def sensed(seconds: float) -> list[Sample | Watermark]:
    """Ten pictures, fifty blocks of sound and two texts a second; each a little late, and random in every bit."""
    rng = np.random.default_rng(1)
    found: list[Sample | Watermark] = []
    until_ns = START_NS + round(seconds * SECOND)
    for t_ns in range(START_NS, until_ns, 100 * MS):
        picture = Frame(rng.integers(0, 256, (24, 32, 3), np.uint8))
        found.append(Sample("camera", picture, t_ns, t_ns, t_ns + 3 * MS + 1))
    for t_ns in range(START_NS, until_ns, 20 * MS):
        sound = Audio(rng.uniform(-1, 1, 320).astype(np.float32))
        found.append(Sample("microphone", sound, t_ns, t_ns + 20 * MS, t_ns + 25 * MS + 1))
    for t_ns in range(START_NS, until_ns, 500 * MS):
        found.append(Sample("text", Text(f"你好 {t_ns}", "zh"), t_ns, t_ns, t_ns + 40 * MS))
    for t_ns in range(START_NS, until_ns, 100 * MS):
        found.append(Watermark("text", t_ns))
    return sorted(found, key=arrived)


def arrived(item: Sample | Watermark) -> int:
    return item.arrival_ns if isinstance(item, Sample) else item.t_ns


@asynccontextmanager
async def recorder_of(config: Config, clock: VirtualClock, session: str = "live") -> AsyncIterator[Recorder]:
    """A recorder that has begun; at the end everything is written out."""
    wall = WallClock()
    wall.calibrate(START_NS, WALL_NS)
    sources = [*SOURCES, *([speech_source(config.encoders.text.span)] if config.agent.transcribe else [])]
    recorder = Recorder(config, session=session, sources=sources, clock=clock, wall=wall)
    reply = await recorder.start()
    assert reply.ok, reply.said
    try:
        yield recorder
    finally:
        reply = await recorder.stop()
        assert reply.ok, reply.said


class Ticking(VirtualClock):
    """A clock on which each look takes 10 ms: whatever is measured with it costs something."""

    def now_ns(self) -> int:
        self.advance_to(super().now_ns() + 10 * MS)
        return super().now_ns()


class Collector:
    """An observer that keeps what was decided."""

    def __init__(self) -> None:
        self.decided_ones: list[Decided] = []

    def fed(self, item: Sample | Watermark) -> None:
        pass

    def marked(self, source: str, state: object) -> None:
        pass

    def decided(self, decided: Decided) -> None:
        self.decided_ones.append(decided)


async def recorded_live(
    config: Config,
    *,
    seconds: float = 4.0,
    encoders: Sequence[Moody] | None = None,
    patience_ns: int | None = None,
    timer: Clock | None = None,
    meanwhile: Callable[[Control, Recorder, VirtualClock], Coroutine[None, None, None]] | None = None,
) -> list[Decided]:
    """Run a live agent on virtual time with a recorder beside it; returns what was decided.

    ``timer`` is by what the pipeline measures how long things take; ``meanwhile`` is done beside it.
    """
    clock = VirtualClock(START_NS)
    pipeline = build_pipeline(
        config,
        sources=SOURCES,
        encoders={encoder.modality: encoder for encoder in encoders or [Moody(m) for m in Modality]},
        transcriber=Echo("as they said"),
        clock=timer or clock,
        session="live",
        patience_ns=patience_ns,
    )
    items = sensed(seconds)

    async def steps(source: str) -> Steps:
        for item in items:
            if item.source == source and arrived(item) >= clock.now_ns():
                await clock.sleep_until(arrived(item))
                yield item

    sensors = [ScriptedSensor(source.name, source, *[partial(steps, source.name)] * 2) for source in SOURCES]
    kept = Collector()
    async with recorder_of(config, clock) as recorder:
        agent = LiveAgent(pipeline, sensors=sensors, clock=clock, sinks=[], observers=[recorder, kept])
        control = Control(agent, changed=lambda: None)
        control.recorder = recorder
        beside = asyncio.create_task(meanwhile(control, recorder, clock)) if meanwhile else None
        await _until_done(asyncio.create_task(agent.run()), clock, pipeline)
        if beside:
            await beside
    pipeline.close()
    return kept.decided_ones


async def _until_done(task: asyncio.Task[None], clock: VirtualClock, pipeline: Pipeline) -> None:
    """Let virtual time pass, and real time where an encoder's thread is at work."""
    while not task.done():
        for _ in range(TURNS):
            await asyncio.sleep(0)
        busy = [
            t for t in asyncio.all_tasks() if t.get_name().startswith(("encode", "decide", "closing")) and not t.done()
        ]
        working = [t for t in busy if not t.get_name().startswith("decide")]
        if working:
            await asyncio.wait([*working, asyncio.create_task(asyncio.sleep(0.002))], return_when="FIRST_COMPLETED")
        if (next_ns := clock.next_ns()) is not None:
            clock.advance_to(next_ns)
    with suppress(asyncio.CancelledError):
        await task


def folders(out: Path) -> list[Path]:
    """The recordings below a folder, oldest first."""
    return sorted(out.iterdir())


def opened(out: Path) -> McapSession:
    """The one recording below a folder."""
    (folder,) = out.iterdir()
    return McapSession.open(folder)
