"""From a window to a decision: encode, fuse, time it.

The pipeline is the same live and in replay: `agent.live` drives it by the real clock, `agent.playback` by the virtual
one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType

from agent.clock import Clock
from agent.deciding.account import Timed, absences, believed, contributions
from agent.deciding.budget import Budget
from agent.deciding.encoding import Encoding
from agent.deciding.head import FusionHead, Verdict
from agent.deciding.regime import Regime
from agent.deciding.selection import Selection
from agent.health.metrics import Metrics
from agent.health.vitals import Ailment, Vitals
from agent.seams import Encoder, Transcriber
from agent.types import (
    Course,
    Decided,
    Decision,
    Latency,
    Modality,
    Sample,
    Source,
    Text,
    Utterance,
    Watermark,
    Window,
)
from agent.window import SlidingWindow, SourceState

SPEECH = "speech"
"""The source under whose name transcripts enter the window."""


def speech_source(span_ns: int) -> Source:
    """The source of transcripts: an utterance closes and is understood long after it began, so nobody waits for it."""
    return Source(SPEECH, Modality.TEXT, awaited=False, late_by_ns=span_ns)


class Pipeline:
    """Owns the encoders; `close` ends their threads and frees the engines.

    Sources of modalities that no encoder reads are `ignored`: what they deliver is dropped, and no window waits for it.
    """

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
        self._regime = Regime(head, budget, self.metrics)
        self._clock = clock
        self.session = session
        self._seq = 0
        self._encoding = Encoding(
            encoders,
            transcriber,
            labels=len(head.labels),
            selections=selections,
            patience_ns=patience_ns,
            clock=clock,
            metrics=self.metrics,
        )

    def count_from(self, seq: int) -> None:
        """Let the next decision have that number."""
        self._seq = seq

    def feed(self, item: Sample | Watermark) -> None:
        """Take in what a source delivers."""
        if item.source in self._ignored:
            return
        match item:
            case Sample():
                self.watch(item)
                self.window.add(item)
            case Watermark():
                self.window.watermark(item.source, item.t_ns)

    def watch(self, sample: Sample) -> None:
        """Look it over for signs that its source cannot be believed, without feeding it to the window."""
        if sample.source not in self._ignored:
            self.vitals.look(sample)

    def mark(self, source: str, state: SourceState) -> None:
        """Say how a source stands, as `agent.window.SlidingWindow.mark`."""
        if source not in self._ignored:
            self.window.mark(source, state)

    @property
    def budget(self) -> Budget | None:
        """What it goes by, now or from the next window on."""
        return self._regime.budget

    @property
    def encoders(self) -> Collection[Modality]:
        """Those that are open."""
        return self._encoding.encoders.keys()

    @property
    def hanging(self) -> Collection[Modality]:
        """Encoders that have not done with an older window."""
        return self._encoding.hanging

    def ailment(self, decision: Decision, modality: Modality) -> Ailment | None:
        """What is wrong with the source that decided for a modality, or with all of its sources where none did."""
        if contribution := decision.modalities.get(modality):
            return next(iter(self.vitals.ailments(contribution.source, decision.end_ns)), None)
        return self.vitals.common(modality, decision.end_ns)

    def suspend(self) -> None:
        """Forget what was sensed; nothing will be fed, and transcripts are ``disabled``, until `resume`."""
        self.window.forget()
        self.vitals.forget()
        if self._encoding.transcriber:
            self.window.mark(SPEECH, SourceState.DISABLED)

    async def forget(self) -> None:
        """Have the encoders forget what they remember of the sources; returns when they have."""
        await self._encoding.forget(self.window.sources)

    def resume(self) -> None:
        """Sensing goes on."""
        if self._encoding.transcriber:
            self.window.mark(SPEECH, SourceState.LIVE)

    def adopt(self, head: FusionHead, budget: Budget | None) -> None:
        """Fuse with another head and budget from the next window on; what the head believes goes on."""
        self._regime.adopt(head, budget)

    async def decide(self, window: Window, course: Course | None = None) -> Decided:
        """The decision for a window; with a ``course`` as it was decided once, whatever took how long then and now."""
        begin_ns = self._clock.now_ns()
        self._regime.change_over()
        for modality, late in self._encoding.let_go():
            self._regime.missed(modality, late.encode_ns)
        given, spared = (course.given, course.spared) if course else self._plan(window)
        timed = await self._encoding.run(given, window.end_ns)
        if course:
            timed = {m: None if m in course.failed else t for m, t in timed.items() if m not in course.late}
        encoded_ns = self._clock.now_ns()
        credited = believed(timed, self.vitals, window.end_ns)
        verdict = self._regime.judge(credited, window.end_ns, spared=bool(spared))
        decision = self._decision(window, credited, verdict, begin_ns=begin_ns, encoded_ns=encoded_ns)
        return Decided(
            window,
            {m: t.reading for m, t in timed.items() if t},
            decision,
            Course(
                given=given,
                spared=spared,
                late=frozenset(m for m in given if m in self._encoding.encoders and m not in timed),
                failed=frozenset(m for m, t in timed.items() if t is None),
            ),
        )

    async def transcribe(self, utterance: Utterance) -> Sample | None:
        """The utterance as a text sample with its span; None when no words were understood."""
        words = await self._encoding.transcribe(utterance)
        if not words:
            return None
        text = Text(words, origin="speech")
        return Sample(SPEECH, text, utterance.t_ns, utterance.end_ns, self._clock.now_ns())

    def close(self) -> None:
        """End the encoders' threads and free the engines."""
        self._encoding.close()

    def _plan(self, window: Window) -> tuple[dict[Modality, Sequence[Sample]], frozenset[Modality]]:
        """What each encoder that is to run is given; and whom the budget leaves out."""
        parts, spared = self._regime.allot(self._encoding.free(window.parts.keys()), window)
        return {m: self.vitals.sound(part, window.end_ns) for m, part in parts.items()}, spared

    def _decision(
        self,
        window: Window,
        timed: Mapping[Modality, Timed | None],
        verdict: Verdict,
        *,
        begin_ns: int,
        encoded_ns: int,
    ) -> Decision:
        now_ns, head = self._clock.now_ns(), self._regime.head
        decision = Decision(
            session=self.session,
            seq=self._seq,
            start_ns=window.start_ns,
            end_ns=window.end_ns,
            label=verdict.label,
            confidence=verdict.confidence,
            conflict=verdict.conflict,
            rule=head.rule,
            probabilities=dict(zip(head.labels, verdict.probs.tolist(), strict=True)),
            dimensions=verdict.dimensions,
            modalities=contributions(timed, verdict, window, head.labels),
            missing=absences(timed, window, self._encoding.encoders),
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
