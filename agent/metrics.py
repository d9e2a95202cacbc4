"""Counters and latencies of a running agent."""

from __future__ import annotations

import resource
from collections import Counter, deque
from collections.abc import Callable, Mapping

from agent.clock import MS
from agent.types import Decision, Latency


class Metrics:
    """What happened since the start, and how long the newest decisions took."""

    WINDOW = 1_024
    """Latencies are quantiles over this many newest decisions."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        """By name, such as ``decisions``, ``windows_skipped``, ``camera.late``, ``publish.dropped``."""
        self.loop_lag_ns = 0
        """The longest that the event loop was late since the last snapshot."""
        self.gauges: dict[str, Callable[[], Mapping[str, float]]] = {}
        """Readings that others keep, asked for at each snapshot; one that reads nothing is left out."""
        self._latencies: deque[Latency] = deque(maxlen=self.WINDOW)

    def count(self, name: str, amount: int = 1) -> None:
        """Add to a counter."""
        self.counts[name] += amount

    def decided(self, decision: Decision) -> None:
        """Take in a decision."""
        self.counts["decisions"] += 1
        self.counts["abstained"] += decision.abstained
        self._latencies.append(decision.latency)

    def acknowledged(self, end_ns: int, now_ns: int) -> None:
        """Take in that at ``now_ns`` the broker acknowledged the decision of the window that ended at ``end_ns``."""
        self.counts["acknowledged"] += 1

    def latency_ms(self) -> dict[str, dict[str, float]]:
        """p50 and p99 of each part of the latency, in ms; empty before the first decision."""
        parts = ("align", "encode", "fuse", "total") if self._latencies else ()
        return {part: _quantiles([getattr(latency, part) for latency in self._latencies]) for part in parts}

    def snapshot(self, dropped: Mapping[str, int]) -> dict[str, object]:
        """Everything, ready for JSON; ``dropped`` counts samples left out, by ``source.reason``."""
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return {
            "counts": dict(self.counts),
            "dropped": dict(dropped),
            "latency_ms": self.latency_ms(),
            "loop_lag_ms": round(self.loop_lag_ns / MS, 1),
            "cpu_s": round(usage.ru_utime + usage.ru_stime, 2),
            "max_rss_mib": round(usage.ru_maxrss / 1024, 1),
            **{name: dict(reading) for name, gauge in self.gauges.items() if (reading := gauge())},
        }


def _quantiles(values_ns: list[int]) -> dict[str, float]:
    values_ns = sorted(values_ns)
    last = len(values_ns) - 1
    return {name: round(values_ns[round(q * last)] / MS, 3) for name, q in (("p50", 0.5), ("p99", 0.99))}
