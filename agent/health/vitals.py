"""Whether what the sources deliver can be believed: a frozen or black picture, a dead or clipping microphone, a clock
that jumped, a stream that stands still.

Each sample is looked at once, and cheaply. What is found holds from the stamp of the sample that showed it, so that a
window has the same vitals however late it is decided, and a replay the same as the run that was recorded. An ailment
begins and ends with hysteresis. While it lasts, the evidence of its source counts by `FACTORS` of its quality.

Pure: no clock, no I/O.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from agent.health.signs import MS, SECOND, Delays, Latch
from agent.types import F32, U8, Audio, Frame, Modality, Sample, Source


class Ailment(StrEnum):
    """What can be wrong with a source that delivers, the worst first."""

    FROZEN = "frozen"
    """A camera sends one picture again and again."""
    SILENCE = "silence"
    """A microphone hears less than the quietest room has: it is muted, unplugged or broken."""
    BLACK = "black"
    """A camera's picture is dark all over: its lens is covered, or there is no light."""
    CLOCK_JUMP = "clock_jump"
    """The stamps of a source have shifted against their arrival, so that what it says may be of another instant."""
    CLIPPING = "clipping"
    """A microphone is too loud for its converter."""
    STALLED = "stalled"
    """Nothing came for `STALL_NS`."""


FACTORS: Mapping[Ailment, float] = {
    Ailment.FROZEN: 0.0,  # it tells nothing of now
    Ailment.SILENCE: 0.0,
    Ailment.BLACK: 0.25,  # a small face may yet be lit
    Ailment.CLOCK_JUMP: 0.5,
    Ailment.CLIPPING: 1.0,  # the voice's own quality falls with the share of clipped samples
    Ailment.STALLED: 1.0,  # the weight falls with age as it is
}
"""By which the quality of a source's evidence is multiplied; of several the least."""

STALL_NS = 2 * SECOND
FROZEN_NS = 10 * SECOND
"""So long no value of the grid changes. A sensor's noise changes some in every frame (EMVA 1288, temporal noise), a
compressed stream of a still scene at the latest with its next key frame: docs/monitoring.md has the measurement."""
MOVING_NS = SECOND
"""So long it changes from frame to frame until it is well again."""
DARK, DARK_SHARE = 26, 0.98
"""A picture is black where this share of its values is below 26 of 255, as ffmpeg's ``blackdetect`` has it (a tenth of
the range, 98 %)."""
BLACK_NS = 3 * SECOND
LIGHT_NS = SECOND
SILENT_RANGE = 2 / 32_768
"""A block in which all samples lie this near together, two steps of a 16-bit converter, is silence. Gaussian noise of
-100 dBFS has that range over 20 ms; the quietest bedroom (30 dB(A), WHO) is 10 dB above that at a microphone that gives
-26 dBFS at 94 dB SPL, as digital MEMS microphones do."""
SILENCE_NS = 10 * SECOND
SOUND_NS = 200 * MS
FULL_SCALE = 0.99
"""Samples at this level count as clipped: resampling rounds the flat tops off a little."""
CLIPS, CLIPS_NOT = 0.01, 0.001
"""Share of clipped samples, over about `CLIP_NS`, from which on it clips, and below which it is well again."""
CLIP_NS = 3 * SECOND
JUMPED_NS = 10 * SECOND
"""So long a jump is held against a source: windows of a few seconds may mix stamps from before and after it."""
ROWS, COLUMNS = 48, 64
"""The grid of pixels that is looked at, at most."""
KEPT = 32
"""Changes of a source that are remembered."""


@dataclass(slots=True)
class Vital:
    """The vital signs of one source."""

    modality: Modality
    newest_ns: int | None = None
    """End of its newest sample."""
    samples: int = 0
    """That it has delivered."""
    _latches: dict[Ailment, Latch] = field(default_factory=dict)
    _changes: deque[tuple[int, tuple[Ailment, ...]]] = field(default_factory=lambda: deque(maxlen=KEPT))
    _grid: U8 | None = None
    _clipped: float = 0.0
    """Share of clipped samples, forgetting."""
    _delays: Delays = field(default_factory=Delays)

    def look(self, sample: Sample) -> None:
        """Take in a sample, in the order of arrival."""
        self.samples += 1
        end_ns = self.newest_ns = sample.end_ns if self.newest_ns is None else max(sample.end_ns, self.newest_ns)
        match sample.payload:
            case Frame():
                signs = self._seen(sample.payload.bgr)
            case Audio():
                signs = self._heard(sample.payload.pcm, sample.end_ns - sample.t_ns)
            case _:
                return
        signs[Ailment.CLOCK_JUMP] = self._delays.jumped(sample)
        found = tuple(a for a in Ailment if a in signs and self._latch(a).update(end_ns, sign=signs[a]))
        if found != self._newest():
            self._changes.append((end_ns, found))

    def ailments(self, at_ns: int) -> tuple[Ailment, ...]:
        """What is wrong with it at an instant, the worst first."""
        found = next((found for t_ns, found in reversed(self._changes) if t_ns <= at_ns), ())
        stalled = self.modality is not Modality.TEXT and self.newest_ns is not None
        if stalled and at_ns - (self.newest_ns or 0) > STALL_NS:
            return (*found, Ailment.STALLED)
        return found

    def forget(self) -> None:
        """Keep nothing of what was seen."""
        self._grid = None

    def _newest(self) -> tuple[Ailment, ...]:
        return self._changes[-1][1] if self._changes else ()

    def _latch(self, ailment: Ailment) -> Latch:
        if ailment not in self._latches:
            self._latches[ailment] = Latch(*_HYSTERESIS[ailment])
        return self._latches[ailment]

    def _seen(self, bgr: U8) -> dict[Ailment, bool]:
        height, width = bgr.shape[:2]
        grid = np.ascontiguousarray(bgr[:: -(-height // ROWS) or 1, :: -(-width // COLUMNS) or 1])
        same = self._grid is not None and np.array_equal(grid, self._grid)
        self._grid = grid
        return {
            Ailment.FROZEN: same,
            Ailment.BLACK: int(np.count_nonzero(grid < DARK)) >= DARK_SHARE * grid.size,
        }

    def _heard(self, pcm: F32, span_ns: int) -> dict[Ailment, bool]:
        if not pcm.size:
            return {}
        low, high = float(pcm.min()), float(pcm.max())
        loud = low <= -FULL_SCALE or high >= FULL_SCALE
        share = float(np.count_nonzero(np.abs(pcm) >= FULL_SCALE)) / pcm.size if loud else 0.0
        self._clipped += (share - self._clipped) * min(1.0, span_ns / CLIP_NS)
        clips = CLIPS_NOT if self._latch(Ailment.CLIPPING).on else CLIPS
        return {Ailment.SILENCE: high - low <= SILENT_RANGE, Ailment.CLIPPING: self._clipped >= clips}


_HYSTERESIS: Mapping[Ailment, tuple[int, int]] = {
    Ailment.FROZEN: (FROZEN_NS, MOVING_NS),
    Ailment.BLACK: (BLACK_NS, LIGHT_NS),
    Ailment.SILENCE: (SILENCE_NS, SOUND_NS),
    Ailment.CLIPPING: (0, 0),
    Ailment.CLOCK_JUMP: (0, JUMPED_NS),
}


class Vitals:
    """The vital signs of all sources."""

    def __init__(self, sources: Iterable[Source]) -> None:
        self.of: dict[str, Vital] = {source.name: Vital(source.modality) for source in sources}

    def look(self, sample: Sample) -> None:
        """Take in a sample, in the order of arrival; those of other sources are passed over."""
        if vital := self.of.get(sample.source):
            vital.look(sample)

    def forget(self) -> None:
        """Keep nothing of what was seen."""
        for vital in self.of.values():
            vital.forget()

    def ailments(self, source: str, at_ns: int) -> tuple[Ailment, ...]:
        """What is wrong with a source at an instant, the worst first."""
        return self.of[source].ailments(at_ns) if source in self.of else ()

    def factor(self, source: str, at_ns: int) -> float:
        """By which the quality of its evidence in the window that ends at ``at_ns`` is to be multiplied, 0..1."""
        return min((FACTORS[a] for a in self.ailments(source, at_ns)), default=1.0)

    def sound(self, samples: Sequence[Sample], end_ns: int) -> Sequence[Sample]:
        """Those of sources that tell something of the window that ends at ``end_ns``; all, where none does."""
        dead = {source for source in {s.source for s in samples} if not self.factor(source, end_ns)}
        return [s for s in samples if s.source not in dead] or samples if dead else samples

    def common(self, modality: Modality, at_ns: int) -> Ailment | None:
        """The worst of what is wrong with a modality of which every source that delivered is ill; None otherwise."""
        found = [v.ailments(at_ns) for v in self.of.values() if v.modality is modality and v.samples]
        if not found or not all(found):
            return None
        return min((ailments[0] for ailments in found), key=list(Ailment).index)
