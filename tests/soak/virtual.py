"""Hours on the virtual clock: the pipeline as it runs live, over an endless session."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator, Sequence
from weakref import WeakKeyDictionary

import numpy as np

from agent.clock import MS, SECOND, VirtualClock, WallClock
from agent.config import Config
from agent.deciding.build import build_pipeline
from agent.deciding.pipeline import Pipeline
from agent.health.standing import StandingBoard
from agent.payload import decision_payload, encode
from agent.playback import play
from agent.seams import Encoder, Transcriber
from agent.types import Evidence, Modality, Reading, Sample, Utterance, Watermark
from sensors.session import Session, arrival_ns
from tests.soak import endless
from tests.soak.usage import Usage

LOOK_NS = 60 * SECOND
WALL_NS = 1_795_255_200 * SECOND


class Remembering:
    """A scripted encoder that keeps what it made of each sample until the window drops it, as the real ones do."""

    def __init__(self, modality: Modality, labels: int) -> None:
        self.modality = modality
        self._labels = labels
        self._made: WeakKeyDictionary[Sample, np.ndarray[tuple[int], np.dtype[np.float64]]] = WeakKeyDictionary()
        self._count = 0

    def encode(self, samples: Sequence[Sample], end_ns: int) -> Reading:
        for sample in samples:
            if sample not in self._made:
                self._count += 1
                probs = np.full(self._labels, 0.2 / (self._labels - 1))
                probs[self._count % self._labels] = 0.8
                self._made[sample] = probs
        newest = samples[-1]
        prior = np.full(self._labels, 1 / self._labels)
        evidence = Evidence(
            self.modality, newest.source, self._made[newest], prior, 0.9, newest.end_ns, "scripted", {"arousal": 0.5}
        )
        spoken = self.modality is Modality.AUDIO and end_ns // (500 * MS) % 20 == 0
        said = Utterance(newest.source, np.zeros(16_000, np.float32), end_ns - SECOND, end_ns)
        return Reading(evidence, utterances=(said,) if spoken else ())

    def close(self) -> None:
        pass


class Hears:
    """A transcriber that always hears the same."""

    def transcribe(self, utterance: Utterance) -> str:
        return "something that was said"

    def close(self) -> None:
        pass


def looped(session: Session, until_ns: int) -> Iterator[endless.Event]:
    """A recorded session again and again."""
    for begin_ns in range(0, until_ns, session.duration_ns + LOOK_NS // 60):
        for event in session.events():
            if begin_ns + arrival_ns(event) >= until_ns:
                return
            if isinstance(event, Sample):
                stamps = (begin_ns + t_ns for t_ns in (event.t_ns, event.end_ns, event.arrival_ns))
                yield Sample(event.source, event.payload, *stamps)
            else:
                yield Watermark(event.source, begin_ns + event.t_ns)


def scripted(config: Config) -> tuple[dict[Modality, Encoder], Transcriber]:
    """Encoders that cost next to nothing, so that hours take minutes."""
    return {m: Remembering(m, len(config.agent.labels)) for m in Modality}, Hears()


async def soak(hours: float, *, session: Session | None = None) -> AsyncIterator[Usage]:
    """What this process holds, once a virtual minute.

    Without a ``session`` it is the endless one with scripted encoders; with one, that one looped with the real ones.
    """
    config, clock, wall = Config(), VirtualClock(), WallClock(tolerance_ns=MS)
    until_ns = round(hours * 3600) * SECOND
    encoders, transcriber = scripted(config) if session is None else _real(config, session)
    sources = endless.SOURCES if session is None else session.sources
    pipeline = build_pipeline(
        config, sources=sources, encoders=encoders, transcriber=transcriber, clock=clock, session="soak"
    )
    events = endless.events(until_ns, pipeline.mark) if session is None else looped(session, until_ns)
    try:
        async for usage in _looks(pipeline, events, clock=clock, wall=wall):
            yield usage
    finally:
        pipeline.close()


def _real(config: Config, session: Session) -> tuple[dict[Modality, Encoder], Transcriber | None]:
    from engines.encoders import open_encoders
    from engines.models import ModelStore

    return open_encoders(config, ModelStore.configured(config.models), {source.modality for source in session.sources})


async def _looks(
    pipeline: Pipeline, events: Iterator[endless.Event], *, clock: VirtualClock, wall: WallClock
) -> AsyncIterator[Usage]:
    """Play, publish to nobody, and look."""
    board, told = StandingBoard(lambda modality, standing: None), 0
    look_ns, published = 0, -1
    async for decided in play(events, pipeline, clock):
        now_ns = clock.now_ns()
        # The wall clock drifts by 10 ppm, and is set right once an hour, forwards and backwards in turns.
        hour = now_ns // (3600 * SECOND)
        wall.calibrate(now_ns, WALL_NS + now_ns + now_ns // 100_000 - (hour % 2) * SECOND)
        payload = decision_payload(decided.decision, node="soak", wall=wall)
        told += len(encode(payload))
        board.update(decided.decision)
        published += 1
        if now_ns >= look_ns:
            look_ns += LOOK_NS
            yield Usage.of(os.getpid(), now_ns / SECOND)
            pipeline.metrics.snapshot({})
    assert pipeline.metrics.counts["decisions"] == published + 1
