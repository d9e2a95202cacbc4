"""From a window to a decision: encode, fuse, time it.

The pipeline is the same live and in replay: `agent.live` drives it by the real clock, `agent.playback` by the virtual
one. Each encoder has one thread of its own: it blocks (inference), it keeps state, and its engine serves one caller.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from agent.clock import Clock
from agent.decision import FusionHead, Verdict
from agent.metrics import Metrics
from agent.seams import Encoder, EncoderError, Transcriber
from agent.types import (
    Absence,
    Contribution,
    Decision,
    Evidence,
    Latency,
    Modality,
    Reading,
    Sample,
    Source,
    Text,
    Utterance,
    Watermark,
    Window,
)
from agent.window import SlidingWindow

log = logging.getLogger(__name__)

SPEECH = "speech"
"""The source under whose name transcripts enter the window."""


def speech_source(span_ns: int) -> Source:
    """The source of transcripts: an utterance closes and is understood long after it began, so nobody waits for it."""
    return Source(SPEECH, Modality.TEXT, awaited=False, late_by_ns=span_ns)


@dataclass(frozen=True, slots=True)
class Timed:
    """A reading, and how long it took."""

    reading: Reading
    encode_ns: int


class Pipeline:
    """Owns the encoders' threads; `close` ends them and frees the engines."""

    def __init__(
        self,
        window: SlidingWindow,
        *,
        encoders: Mapping[Modality, Encoder],
        transcriber: Transcriber | None,
        head: FusionHead,
        clock: Clock,
        session: str,
    ) -> None:
        self.window = window
        self.metrics = Metrics()
        self._encoders = encoders
        self._transcriber = transcriber
        self._head = head
        self._clock = clock
        self._session = session
        self._seq = 0
        self._threads = {m: ThreadPoolExecutor(1, thread_name_prefix=f"encode-{m}") for m in encoders}
        self._speech_thread = ThreadPoolExecutor(1, thread_name_prefix="transcribe")

    def feed(self, item: Sample | Watermark) -> None:
        """Take in what a source delivers."""
        match item:
            case Sample():
                self.window.add(item)
            case Watermark():
                self.window.watermark(item.source, item.t_ns)

    async def decide(self, window: Window) -> tuple[Decision, tuple[Utterance, ...]]:
        """The decision for a window, and the utterances that ended in it."""
        begin_ns = self._clock.now_ns()
        modalities = [m for m in window.parts if m in self._encoders]
        timed = await asyncio.gather(*(self._encode(m, window) for m in modalities))
        encoded_ns = self._clock.now_ns()
        by_modality = dict(zip(modalities, timed, strict=True))
        utterances = tuple(u for t in timed if t is not None for u in t.reading.utterances)
        return self._fuse(window, by_modality, begin_ns=begin_ns, encoded_ns=encoded_ns), utterances

    async def transcribe(self, utterance: Utterance) -> Sample | None:
        """The utterance as a text sample with its span; None when no words were understood."""
        if self._transcriber is None:
            return None
        loop = asyncio.get_running_loop()
        words = await loop.run_in_executor(self._speech_thread, self._transcriber.transcribe, utterance)
        if not words:
            return None
        text = Text(words, origin="speech")
        return Sample(SPEECH, text, utterance.t_ns, utterance.end_ns, self._clock.now_ns())

    def close(self) -> None:
        """Wait for what runs, and free the engines."""
        for thread in (*self._threads.values(), self._speech_thread):
            thread.shutdown(cancel_futures=True)
        for encoder in self._encoders.values():
            encoder.close()
        if self._transcriber:
            self._transcriber.close()

    async def _encode(self, modality: Modality, window: Window) -> Timed | None:
        """The reading of one modality; None when its encoder failed, which is counted and said."""
        encoder = self._encoders[modality]

        def work() -> Timed:
            begin_ns = self._clock.now_ns()
            reading = encoder.encode(window.parts[modality], window.end_ns)
            return Timed(reading, self._clock.now_ns() - begin_ns)

        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads[modality], work)
        except EncoderError as error:
            self.metrics.count(f"encode.{modality}.failed")
            log.warning("encoder %s failed in the window that ends at %d ns: %s", modality, window.end_ns, error)
            return None

    def _fuse(
        self, window: Window, timed: Mapping[Modality, Timed | None], *, begin_ns: int, encoded_ns: int
    ) -> Decision:
        evidence = [t.reading.evidence for t in timed.values() if t and t.reading.evidence]
        verdict = self._head.judge(evidence, window.end_ns)
        now_ns = self._clock.now_ns()
        decision = Decision(
            session=self._session,
            seq=self._seq,
            start_ns=window.start_ns,
            end_ns=window.end_ns,
            label=verdict.label,
            confidence=verdict.confidence,
            conflict=verdict.conflict,
            rule=self._head.rule,
            probabilities=dict(zip(self._head.labels, verdict.probs.tolist(), strict=True)),
            dimensions=verdict.dimensions,
            modalities={e.modality: self._contribution(e, verdict, window, timed[e.modality]) for e in evidence},
            missing={m: reason for m in Modality if (reason := _absence(m, window, timed))},
            latency=Latency(
                align=window.cut_ns - window.end_ns,
                encode=encoded_ns - begin_ns,
                fuse=now_ns - encoded_ns,
                total=now_ns - window.end_ns,
            ),
        )
        self._seq += 1
        self.metrics.decided(decision)
        return decision

    def _contribution(self, e: Evidence, verdict: Verdict, window: Window, timed: Timed | None) -> Contribution:
        top = int(e.probs.argmax())
        return Contribution(
            label=self._head.labels[top],
            confidence=float(e.probs[top]),
            weight=verdict.weights[e.modality],
            quality=e.quality,
            age_ns=max(0, window.end_ns - e.t_ns),
            contribution=verdict.shares[e.modality],
            source=e.source,
            engine=e.engine,
            encode_ns=timed.encode_ns if timed else 0,
            rivals=e.rivals,
        )


def _absence(modality: Modality, window: Window, timed: Mapping[Modality, Timed | None]) -> Absence | None:
    """Why a modality has no evidence in a window; None when it has."""
    if modality in window.missing:
        return window.missing[modality]
    if modality not in window.parts or modality not in timed:
        return Absence.DISABLED
    reading = timed[modality]
    if reading is None:
        return Absence.FAILED
    return None if reading.reading.evidence else Absence.SILENT
