"""The sliding window: lines up samples by the instant at which they happened.

A window is cut every ``hop`` at ``end_ns``; a modality contributes its samples whose span ends in
``(end_ns - span, end_ns]``. A window is *settled*, and cut at once, when the watermark of every live source has
reached its end; else it is cut at ``end_ns + lateness`` with what has come. What is absent is named, with the reason.

The code is pure: no clock, no task, no I/O. Adding a sample costs O(log n) at worst and O(1) when it comes in order;
cutting costs the number of samples that the window holds.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

from agent.types import Absence, Modality, Sample, Source, Window, nbytes

MIB = 1 << 20
_BEFORE_ALL = -(1 << 62)


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much the window remembers at most, per modality; the oldest samples go first."""

    count: int = 4_000
    """Samples."""
    nbytes: int = 256 * MIB
    """Payload bytes."""
    future_ns: int = 1_000_000_000
    """A sample that ends further than this after its own arrival is stamped wrongly and dropped."""


class SourceState(Enum):
    """What the window assumes of a source."""

    LIVE = auto()
    FAILED = auto()
    DISABLED = auto()


class SlidingWindow:
    """Windows over the samples of several sources.

    `dropped` counts, by source and reason, the samples that were refused or given up: ``late`` (came after its window
    was cut), ``duplicate`` (a second sample of an in-order source with the same end), ``future`` (see `Bounds`),
    ``overflow`` (gave way to newer ones).
    """

    def __init__(
        self,
        sources: Iterable[Source],
        *,
        spans_ns: Mapping[Modality, int],
        hop_ns: int,
        lateness_ns: int,
        start_ns: int = 0,
        bounds: Bounds = Bounds(),
    ) -> None:
        """Cut windows at the multiples of ``hop_ns`` after ``start_ns``, for the modalities of ``spans_ns``."""
        if hop_ns <= 0 or lateness_ns < 0 or any(span <= 0 for span in spans_ns.values()):
            raise ValueError(
                f"hop {hop_ns} ns and spans {dict(spans_ns)} must be above 0, lateness {lateness_ns} ns not below"
            )
        self.hop_ns = hop_ns
        self.lateness_ns = lateness_ns
        self.dropped: Counter[tuple[str, str]] = Counter()
        sources = tuple(sources)
        twice = [name for name, count in Counter(source.name for source in sources).items() if count > 1]
        if twice:
            raise ValueError(f"two sources are called {', '.join(twice)}; each needs a name of its own")
        self._buffers = {modality: _Buffer(span, bounds) for modality, span in spans_ns.items()}
        unknown = {source.modality for source in sources} - set(self._buffers)
        if unknown:
            raise ValueError(f"no span is given for {', '.join(sorted(unknown))}")
        self._streams = {source.name: _Stream(source, self._buffers[source.modality]) for source in sources}
        self._future_ns = bounds.future_ns
        self._longest_ns = max(spans_ns.values())
        self._cut_end_ns = _BEFORE_ALL
        self.next_end_ns = (start_ns // hop_ns + 1) * hop_ns

    def sources(self, modality: Modality) -> list[str]:
        """Names of the sources of a modality."""
        return [name for name, stream in self._streams.items() if stream.source.modality is modality]

    @property
    def deadline_ns(self) -> int:
        """When the next window will be cut, settled or not."""
        return self.next_end_ns + self.lateness_ns

    def add(self, sample: Sample) -> bool:
        """Take in a sample; False when it was dropped (and counted). Raises `KeyError` for an unknown source."""
        stream = self._streams[sample.source]
        end_ns, late_by_ns = sample.end_ns, stream.source.late_by_ns
        if end_ns > sample.arrival_ns + self._future_ns:
            return self._drop(sample, "future")
        if end_ns <= self._cut_end_ns - late_by_ns:
            return self._drop(sample, "late")
        if not late_by_ns:
            if end_ns > stream.newest_ns:
                stream.newest_ns = end_ns
                if end_ns > stream.watermark_ns:
                    stream.watermark_ns = end_ns
            elif end_ns == stream.newest_ns or stream.buffer.holds(sample.source, end_ns):
                return self._drop(sample, "duplicate")
        for oldest in stream.buffer.add(sample):
            self._drop(oldest, "overflow")
        return True

    def watermark(self, source: str, t_ns: int) -> None:
        """A source says that it has delivered all that ends at or before ``t_ns``; less than before is ignored."""
        stream = self._streams[source]
        stream.watermark_ns = max(stream.watermark_ns, t_ns)

    def mark(self, source: str, state: SourceState) -> None:
        """Say whether a source lives: windows do not wait for one that failed or is disabled."""
        self._streams[source].state = state

    def forget(self) -> None:
        """Let go of every sample: those in memory will be in no window."""
        for buffer in self._buffers.values():
            buffer.clear()

    def cut(self, now_ns: int) -> list[Window]:
        """The windows that are due at ``now_ns``, oldest first. Each end is cut exactly once."""
        windows = []
        while now_ns >= self.next_end_ns:
            settled = self._settled(self.next_end_ns)
            if not settled and now_ns < self.deadline_ns:
                break
            windows.append(self._window(now_ns, settled=settled))
            self._cut_end_ns = self.next_end_ns
            self.next_end_ns += self.hop_ns
        return windows

    def due_ns(self) -> int:
        """The earliest instant at which `cut` would return a window if nothing more came."""
        return self.next_end_ns if self._settled(self.next_end_ns) else self.deadline_ns

    def held(self) -> dict[Modality, tuple[int, int]]:
        """Per modality the number of samples in memory and their payload bytes."""
        return {modality: (len(buffer.samples), buffer.nbytes) for modality, buffer in self._buffers.items()}

    def _drop(self, sample: Sample, reason: str) -> bool:
        self.dropped[sample.source, reason] += 1
        return False

    def _settled(self, end_ns: int) -> bool:
        return all(
            stream.watermark_ns >= end_ns
            for stream in self._streams.values()
            if stream.source.awaited and stream.state is SourceState.LIVE
        )

    def _window(self, now_ns: int, *, settled: bool) -> Window:
        end_ns = self.next_end_ns
        parts: dict[Modality, tuple[Sample, ...]] = {}
        missing: dict[Modality, Absence] = {}
        for modality, buffer in self._buffers.items():
            samples = buffer.cut(end_ns)
            if samples:
                parts[modality] = samples
            else:
                missing[modality] = self._absence(modality, end_ns)
        return Window(end_ns - self._longest_ns, end_ns, now_ns, settled, parts, missing)

    def _absence(self, modality: Modality, end_ns: int) -> Absence:
        streams = [stream for stream in self._streams.values() if stream.source.modality is modality]
        live = [stream for stream in streams if stream.state is SourceState.LIVE and stream.source.awaited]
        if live:
            delivered = any(stream.watermark_ns >= end_ns for stream in live)
            return Absence.SILENT if delivered else Absence.LATE
        if any(stream.state is SourceState.FAILED for stream in streams):
            return Absence.FAILED
        return Absence.SILENT if any(stream.state is SourceState.LIVE for stream in streams) else Absence.DISABLED


@dataclass(slots=True)
class _Stream:
    """What is known of one source."""

    source: Source
    buffer: _Buffer
    """Of its modality."""
    state: SourceState = SourceState.LIVE
    watermark_ns: int = _BEFORE_ALL
    newest_ns: int = _BEFORE_ALL


def _order(sample: Sample) -> tuple[int, int, str]:
    return sample.end_ns, sample.t_ns, sample.source


def _end_ns(sample: Sample) -> int:
    return sample.end_ns


@dataclass(slots=True)
class _Buffer:
    """The samples of one modality, sorted by `_order`."""

    span_ns: int
    bounds: Bounds
    samples: list[Sample] = field(default_factory=list)
    nbytes: int = 0

    def holds(self, source: str, end_ns: int) -> bool:
        """Whether there is a sample of that source with that end."""
        first = bisect_left(self.samples, end_ns, key=_end_ns)
        alike = self.samples[first : bisect_right(self.samples, end_ns, lo=first, key=_end_ns)]
        return any(sample.source == source for sample in alike)

    def add(self, sample: Sample) -> Sequence[Sample]:
        """Put a sample in its place; returns what had to go for it."""
        samples = self.samples
        if not samples or samples[-1].end_ns < sample.end_ns:  # in order, as nearly always
            samples.append(sample)
        else:
            insort(samples, sample, key=_order)
        size = self.nbytes = self.nbytes + nbytes(sample.payload)
        if len(samples) <= self.bounds.count and size <= self.bounds.nbytes:
            return ()
        excess = 0
        while len(samples) - excess > self.bounds.count or (size > self.bounds.nbytes and excess < len(samples)):
            size -= nbytes(samples[excess].payload)
            excess += 1
        return self._forget(excess)

    def cut(self, end_ns: int) -> tuple[Sample, ...]:
        """The samples that end in ``(end_ns - span, end_ns]``; those before are forgotten."""
        self._forget(bisect_right(self.samples, end_ns - self.span_ns, key=_end_ns))
        return tuple(self.samples[: bisect_right(self.samples, end_ns, key=_end_ns)])

    def clear(self) -> None:
        """Forget all samples."""
        self._forget(len(self.samples))

    def _forget(self, count: int) -> list[Sample]:
        gone = self.samples[:count]
        del self.samples[:count]
        self.nbytes -= sum(nbytes(sample.payload) for sample in gone)
        return gone
