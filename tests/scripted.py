"""Sensors and encoders that do what a test says, behind the same seams as the real ones."""

from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence

import numpy as np

from agent.clock import Clock
from agent.deciding.head import FusionHead, Trust
from agent.deciding.pipeline import Pipeline, speech_source
from agent.fusion import Bayes
from agent.health.vitals import Vitals
from agent.seams import Transcriber
from agent.types import Evidence, Modality, Reading, Sample, Source, Utterance, Watermark
from agent.window import SlidingWindow

LABELS = ("neutral", "happy", "sad")
PRIOR = np.full(3, 1 / 3)
HAPPY = np.array([0.1, 0.8, 0.1])
HOP_NS = 100_000_000
SOURCES = (
    Source("camera", Modality.VISION),
    Source("microphone", Modality.AUDIO),
    Source("text", Modality.TEXT, late_by_ns=HOP_NS),
)

Steps = AsyncGenerator[Sample | Watermark, None]


class ScriptedSensor:
    """A sensor whose n-th run is the n-th of the given generators."""

    def __init__(self, name: str, source: Source, *runs: Callable[[], Steps]) -> None:
        self.name = name
        self.sources = (source,)
        self.drops: Counter[str] = Counter()
        self._runs = iter(runs)

    def stream(self) -> Steps:
        return next(self._runs)()


class ScriptedEncoder:
    """An encoder that answers with what `answer` makes of the samples, and remembers what it was shown."""

    def __init__(self, modality: Modality, answer: Callable[[Sequence[Sample]], Reading]) -> None:
        self.modality = modality
        self.shown: list[tuple[int, ...]] = []
        self.closed = False
        self._answer = answer

    def encode(self, samples: Sequence[Sample], end_ns: int) -> Reading:
        self.shown.append(tuple(sample.end_ns for sample in samples))
        return self._answer(samples)

    def close(self) -> None:
        self.closed = True


def happy(samples: Sequence[Sample]) -> Reading:
    """Evidence for happiness, as old as the newest sample."""
    newest = samples[-1]
    return Reading(Evidence(newest.modality, newest.source, HAPPY, PRIOR, 0.9, newest.end_ns, "scripted"))


def silent(samples: Sequence[Sample]) -> Reading:
    """No evidence."""
    return Reading(None)


class Echo:
    """A transcriber that always hears the same words."""

    def __init__(self, words: str | None) -> None:
        self.words = words
        self.heard: list[Utterance] = []

    def transcribe(self, utterance: Utterance) -> str | None:
        self.heard.append(utterance)
        return self.words

    def close(self) -> None:
        pass


def pipeline(
    clock: Clock,
    *encoders: ScriptedEncoder,
    transcriber: Transcriber | None = None,
    sources: Sequence[Source] = SOURCES,
    ignored: Sequence[str] = (),
    patience_ns: int | None = None,
    vitals: Vitals | None = None,
) -> Pipeline:
    """A pipeline with windows of one hop (text: ten), a lateness of half a hop and no smoothing."""
    sources = [*sources, *([speech_source(10 * HOP_NS)] if transcriber else [])]
    window = SlidingWindow(
        sources,
        spans_ns={Modality.VISION: HOP_NS, Modality.AUDIO: HOP_NS, Modality.TEXT: 10 * HOP_NS},
        hop_ns=HOP_NS,
        lateness_ns=HOP_NS // 2,
        start_ns=clock.now_ns(),
    )
    head = FusionHead(
        Bayes(),
        labels=LABELS,
        prior=PRIOR,
        trust={modality: Trust(reliability=1.0, tau_ns=HOP_NS) for modality in Modality},
        smoothing=None,
        abstain_below=0.5,
    )
    return Pipeline(
        window,
        encoders={encoder.modality: encoder for encoder in encoders},
        transcriber=transcriber,
        head=head,
        clock=clock,
        session="test",
        ignored=ignored,
        patience_ns=patience_ns,
        vitals=vitals,
    )
