"""Counters and latencies of a running agent: the one place where things are counted."""

from __future__ import annotations

import resource
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from agent.clock import MS
from agent.types import Decision, Latency, Modality

BOUNDS_NS = tuple(
    ms * MS
    for ms in (1, 2, 5, 10, 20, 30, 50, 75, 100, 150, 200, 300, 500, 750, 1_000, 1_500, 2_000, 3_000, 5_000, 10_000)
)
"""Upper bounds of a histogram's buckets: close where decisions of an edge box lie, up to where nobody waits."""
LAGS = 4
"""Newest readings of the event loop's lag that are kept, one a second."""


@dataclass(slots=True)
class Histogram:
    """How often how long, since the start."""

    counts: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_NS) + 1))
    """Per bucket, up to and including its bound; the last has none."""
    sum_ns: int = 0

    def add(self, ns: int) -> None:
        """Take in a duration."""
        self.counts[bisect_left(BOUNDS_NS, ns)] += 1
        self.sum_ns += ns


class Metrics:
    """What happened since the start, and how long the newest decisions took."""

    WINDOW = 1_024
    """Latencies are quantiles over this many newest decisions."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        """By name, such as ``decisions``, ``windows_skipped``, ``camera.late``, ``publish.dropped``."""
        self.loop_lag_ns = 0
        """The longest that the event loop was late since the last snapshot."""
        self.lags_ns: deque[int] = deque(maxlen=LAGS)
        """The newest readings of how late the event loop was."""
        self.gauges: dict[str, Callable[[], Mapping[str, float]]] = {}
        """Readings that others keep, asked for at each snapshot; one that reads nothing is left out."""
        self.stages: dict[str, Histogram] = {part: Histogram() for part in ("align", "encode", "fuse")}
        """Where the time to a decision went, as in `agent.types.Latency`."""
        self.decision = Histogram()
        """From a window's end, which is when its newest moment was captured, to the hand-over of its decision."""
        self.acknowledgement = Histogram()
        """From a window's end to the broker's acknowledgement."""
        self.encoding: dict[Modality, Histogram] = {}
        """Runs of each encoder."""
        self.lag = Histogram()
        """Of the event loop, a reading a second."""
        self._latencies: deque[Latency] = deque(maxlen=self.WINDOW)
        self._acknowledged: deque[int] = deque(maxlen=self.WINDOW)

    def count(self, name: str, amount: int = 1) -> None:
        """Add to a counter."""
        self.counts[name] += amount

    def decided(self, decision: Decision) -> None:
        """Take in a decision."""
        self.counts["decisions"] += 1
        self.counts["abstained"] += decision.abstained
        self._latencies.append(decision.latency)
        self.decision.add(decision.latency.total)
        for part, histogram in self.stages.items():
            histogram.add(getattr(decision.latency, part))

    def acknowledged(self, end_ns: int, now_ns: int) -> None:
        """Take in that at ``now_ns`` the broker acknowledged the decision of the window that ended at ``end_ns``."""
        self._acknowledged.append(now_ns - end_ns)
        self.acknowledgement.add(now_ns - end_ns)

    def encoded(self, modality: Modality, ns: int) -> None:
        """Take in how long a run of an encoder took."""
        self.encoding.setdefault(modality, Histogram()).add(ns)

    def lagged(self, ns: int) -> None:
        """Take in how late the event loop was."""
        self.loop_lag_ns = max(self.loop_lag_ns, ns)
        self.lags_ns.append(ns)
        self.lag.add(ns)

    @property
    def connected(self) -> bool:
        """Whether the broker is connected: more connections came about than ended."""
        return self.counts["mqtt.connections"] > self.counts["mqtt.connections_lost"]

    def latency_ms(self) -> dict[str, dict[str, float]]:
        """p50 and p99 of each part of the latency, in ms; empty before the first decision."""
        parts = ("align", "encode", "fuse", "total") if self._latencies else ()
        found = {part: _quantiles([getattr(latency, part) for latency in self._latencies]) for part in parts}
        return found | ({"acknowledged": _quantiles([*self._acknowledged])} if self._acknowledged else {})

    def snapshot(self, dropped: Mapping[str, int]) -> dict[str, object]:
        """Everything, ready for JSON; ``dropped`` counts samples left out, by ``source.reason``."""
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return {
            "counts": dict(self.counts),
            "dropped": dict(dropped),
            "latency_ms": self.latency_ms(),
            "loop_lag_ms": round(self.loop_lag_ns / MS, 1),
            "cpu_s": round(usage.ru_utime + usage.ru_stime, 2),
            "max_rss_mib": round(peak_rss_kib() / 1024, 1),
            **{name: dict(reading) for name, gauge in self.gauges.items() if (reading := gauge())},
        }


def peak_rss_kib() -> int:
    """The most resident memory that this process had.

    Linux begins ``ru_maxrss`` with the peak of whoever started the process, so its own count is asked first.
    """
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1])
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _quantiles(values_ns: list[int]) -> dict[str, float]:
    values_ns = sorted(values_ns)
    last = len(values_ns) - 1
    return {name: round(values_ns[round(q * last)] / MS, 3) for name, q in (("p50", 0.5), ("p99", 0.99))}
