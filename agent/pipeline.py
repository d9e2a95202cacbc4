"""From a window to a decision: encode, fuse, time it.

The pipeline is the same live and in replay: `agent.live` drives it by the real clock, `agent.playback` by the virtual
one. Each encoder has one thread of its own: it blocks (inference), it keeps state, and its engine serves one caller.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from types import MappingProxyType

from agent.account import Timed, absences, believed, contributions
from agent.budget import Budget
from agent.clock import SECOND, Clock
from agent.decision import FusionHead, Verdict
from agent.metrics import Metrics
from agent.seams import Encoder, EncoderError, Forgetful, Transcriber
from agent.selection import Selection
from agent.types import (
    Course,
    Decided,
    Decision,
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
from agent.vitals import Ailment, Vitals
from agent.wellformed import flaw
from agent.window import SlidingWindow, SourceState
from agent.worker import Worker

log = logging.getLogger(__name__)

SPEECH = "speech"
"""The source under whose name transcripts enter the window."""


def speech_source(span_ns: int) -> Source:
    """The source of transcripts: an utterance closes and is understood long after it began, so nobody waits for it."""
    return Source(SPEECH, Modality.TEXT, awaited=False, late_by_ns=span_ns)


class Pipeline:
    """Owns the encoders' threads; `close` ends them and frees the engines.

    Sources of modalities that no encoder reads are `ignored`: what they deliver is dropped, and no window waits for it.
    """

    CLOSE_S = 1.0
    """How long `close` waits for an encoder that is at work."""

    def __init__(
        self,
        window: SlidingWindow,
        *,
        encoders: Mapping[Modality, Encoder],
        transcriber: Transcriber | None,
        head: FusionHead,
        clock: Clock,
        session: str,
        ignored: Collection[str] = (),
        patience_ns: int | None = None,
        selections: Mapping[Modality, Selection] = MappingProxyType({}),
        budget: Budget | None = None,
        vitals: Vitals | None = None,
    ) -> None:
        """An encoder that takes longer than ``patience_ns`` is left out (``skipped``) until it has done; None waits.

        An encoder sees what its modality's selection picks out of a window, or all where there is none. Without a
        ``budget`` all encoders run in every window. ``vitals`` watch the sources; without, all are believed.
        """
        self.window = window
        self.metrics = Metrics()
        self.vitals = vitals or Vitals(())
        self._ignored = frozenset(ignored)
        self._patience_s = None if patience_ns is None else patience_ns / SECOND
        self._encoders = encoders
        self._selections = selections
        self._transcriber = transcriber
        self._head = head
        self._budget: Budget | None = None
        self._next: tuple[FusionHead, Budget | None] | None = (head, budget)
        self._change_over()
        self._clock = clock
        self.session = session
        self._seq = 0
        self._workers = {m: Worker(f"encode {m}") for m in encoders}
        self._listener = Worker("transcribe")
        self._slow: dict[Modality, asyncio.Task[Timed | None]] = {}  # encoders that have not done with an older window
        self._failures: dict[Modality, str] = {}  # what was said of those that failed the last time

    def count_from(self, seq: int) -> None:
        """Let the next decision have that number."""
        self._seq = seq

    def feed(self, item: Sample | Watermark) -> None:
        """Take in what a source delivers."""
        if item.source in self._ignored:
            return
        match item:
            case Sample():
                self.vitals.look(item)
                self.window.add(item)
            case Watermark():
                self.window.watermark(item.source, item.t_ns)

    def mark(self, source: str, state: SourceState) -> None:
        """Say how a source stands, as `agent.window.SlidingWindow.mark`."""
        if source not in self._ignored:
            self.window.mark(source, state)

    @property
    def budget(self) -> Budget | None:
        """What it goes by, now or from the next window on."""
        return self._next[1] if self._next else self._budget

    @property
    def encoders(self) -> Collection[Modality]:
        """Those that are open."""
        return self._encoders.keys()

    @property
    def hanging(self) -> Collection[Modality]:
        """Encoders that have not done with an older window."""
        return [modality for modality, task in self._slow.items() if not task.done()]

    def ailment(self, decision: Decision, modality: Modality) -> Ailment | None:
        """What is wrong with the source that decided for a modality, or with all of its sources where none did."""
        if contribution := decision.modalities.get(modality):
            return next(iter(self.vitals.ailments(contribution.source, decision.end_ns)), None)
        return self.vitals.common(modality, decision.end_ns)

    def suspend(self) -> None:
        """Forget what was sensed; nothing will be fed, and transcripts are ``disabled``, until `resume`."""
        self.window.forget()
        if self._transcriber:
            self.window.mark(SPEECH, SourceState.DISABLED)

    async def forget(self) -> None:
        """Have the encoders forget what they remember of the sources; returns when they have."""
        for modality, encoder in self._encoders.items():
            if isinstance(encoder, Forgetful):
                for source in self.window.sources(modality):
                    await self._workers[modality].run(partial(encoder.forget, source))

    def resume(self) -> None:
        """Sensing goes on."""
        if self._transcriber:
            self.window.mark(SPEECH, SourceState.LIVE)

    def adopt(self, head: FusionHead, budget: Budget | None) -> None:
        """Fuse with another head and budget from the next window on; what the head believes goes on."""
        self._next = (head, budget)

    async def decide(self, window: Window, course: Course | None = None) -> Decided:
        """The decision for a window; with a ``course`` as it was decided once, whatever took how long then and now."""
        begin_ns = self._clock.now_ns()
        self._change_over()
        self._let_go()
        given, spared = (course.given, course.spared) if course else self._plan(window)
        tasks = {
            m: asyncio.create_task(self._encode(m, samples, window.end_ns), name=f"encode {m}")
            for m, samples in given.items()
            if m in self._encoders
        }
        try:
            if tasks:
                await asyncio.wait(tasks.values(), timeout=self._patience_s)
        except asyncio.CancelledError:
            for task in tasks.values():
                task.cancel()
            raise
        self._slow |= {m: task for m, task in tasks.items() if not task.done()}
        for modality in self._slow:
            self.metrics.count(f"encode.{modality}.skipped")
        timed = {m: task.result() for m, task in tasks.items() if task.done()}
        if course:
            timed = {m: None if m in course.failed else t for m, t in timed.items() if m not in course.late}
        encoded_ns = self._clock.now_ns()
        heard = believed(timed, self.vitals, window.end_ns)
        verdict = self._judge(window, heard, spared=bool(spared))
        decision = self._decision(window, heard, verdict, begin_ns=begin_ns, encoded_ns=encoded_ns)
        return Decided(
            window,
            {m: t.reading for m, t in timed.items() if t},
            decision,
            Course(
                given=given,
                spared=spared,
                late=frozenset(m for m in tasks if m not in timed),
                failed=frozenset(m for m, t in timed.items() if t is None),
            ),
        )

    async def transcribe(self, utterance: Utterance) -> Sample | None:
        """The utterance as a text sample with its span; None when no words were understood."""
        transcriber = self._transcriber
        if transcriber is None:
            return None
        try:
            words = await self._listener.run(lambda: transcriber.transcribe(utterance))
        except EncoderError as error:
            self.metrics.count("transcribe.failed")
            log.warning("transcription failed: %s", error)
            return None
        if not words:
            return None
        text = Text(words, origin="speech")
        return Sample(SPEECH, text, utterance.t_ns, utterance.end_ns, self._clock.now_ns())

    def close(self) -> None:
        """End the threads and free the engines; one that is still at work after `CLOSE_S` is left to itself."""
        parts: list[tuple[Worker, Encoder | Transcriber]] = [
            (self._workers[m], encoder) for m, encoder in self._encoders.items()
        ]
        if self._transcriber:
            parts.append((self._listener, self._transcriber))
        for worker, _ in parts:
            worker.dismiss()
        until_s = time.monotonic() + self.CLOSE_S
        for worker, part in parts:
            if worker.ended(max(0.0, until_s - time.monotonic())):
                part.close()

    def _plan(self, window: Window) -> tuple[dict[Modality, Sequence[Sample]], frozenset[Modality]]:
        """What each encoder that is to run is given; and whom the budget leaves out."""
        present = [m for m in window.parts if m in self._encoders and m not in self._slow]
        spared = self._spare(present, window)
        parts = {m: self._budget.part(m) if self._budget else window.parts[m] for m in present if m not in spared}
        return {m: self.vitals.sound(part, window.end_ns) for m, part in parts.items()}, spared

    async def _encode(self, modality: Modality, samples: Sequence[Sample], end_ns: int) -> Timed | None:
        """The reading of one modality; None when its encoder failed, which is counted and said."""
        encoder = self._encoders[modality]
        if modality in self._selections:
            samples = self._selections[modality](samples, end_ns)
            if not samples:
                self.metrics.count(f"align.{modality}.unmatched")
                return Timed(Reading(None), 0)

        def work() -> Timed:
            begin_ns = self._clock.now_ns()
            reading = encoder.encode(samples, end_ns)
            return Timed(reading, self._clock.now_ns() - begin_ns)

        try:
            timed = await self._workers[modality].run(work)
        except EncoderError as error:
            self._failed(modality, str(error), end_ns)
            return None
        self.metrics.encoded(modality, timed.encode_ns)
        evidence = timed.reading.evidence
        if evidence and (said := flaw(evidence, modality, len(self._head.labels))):
            self._failed(modality, f"its evidence is refused, because {said}", end_ns)
            return None
        self._failures.pop(modality, None)
        return timed

    def _failed(self, modality: Modality, said: str, end_ns: int) -> None:
        """Count it, and say it unless the same was said before and nothing has gone well since."""
        self.metrics.count(f"encode.{modality}.failed")
        if self._failures.get(modality) != said:
            self._failures[modality] = said
            log.warning("encoder %s failed in the window that ends at %d ns: %s", modality, end_ns, said)

    def _change_over(self) -> None:
        """To the head and the budget that are next, if any are: between two windows, never within one."""
        if not self._next:
            return
        head, budget = self._next
        self._next = None
        head.succeed(self._head)
        self._head = head
        if budget is not self._budget:
            self._budget = budget
            self.metrics.gauges.pop("budget", None)
            if budget:
                self.metrics.gauges["budget"] = budget.reading

    def _let_go(self) -> None:
        """Of encoders that have done with their old window: what they found is stale, but a bug is not swallowed."""
        for modality, task in [(m, task) for m, task in self._slow.items() if task.done()]:
            del self._slow[modality]
            late = task.result()
            if late and self._budget:
                self._budget.missed(modality, late.encode_ns)

    def _spare(self, present: Sequence[Modality], window: Window) -> frozenset[Modality]:
        """Whom the budget leaves out."""
        if not self._budget:
            return frozenset()
        spared = self._budget.spare(present, window, self._head.foresee(window.end_ns))
        for modality in spared:
            self.metrics.count(f"encode.{modality}.spared")
        return spared

    def _judge(self, window: Window, timed: Mapping[Modality, Timed | None], *, spared: bool) -> Verdict:
        evidence = [t.reading.evidence for t in timed.values() if t and t.reading.evidence]
        if self._budget:
            costs_ns = {m: t.encode_ns for m, t in timed.items() if t and t.encode_ns}
            self._budget.learn(costs_ns, self._head.gains(evidence, window.end_ns), len(self._head.labels))
        return self._head.judge(evidence, window.end_ns, spared=spared)

    def _decision(
        self,
        window: Window,
        timed: Mapping[Modality, Timed | None],
        verdict: Verdict,
        *,
        begin_ns: int,
        encoded_ns: int,
    ) -> Decision:
        now_ns = self._clock.now_ns()
        decision = Decision(
            session=self.session,
            seq=self._seq,
            start_ns=window.start_ns,
            end_ns=window.end_ns,
            label=verdict.label,
            confidence=verdict.confidence,
            conflict=verdict.conflict,
            rule=self._head.rule,
            probabilities=dict(zip(self._head.labels, verdict.probs.tolist(), strict=True)),
            dimensions=verdict.dimensions,
            modalities=contributions(timed, verdict, window, self._head.labels),
            missing=absences(timed, window, self._encoders),
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
