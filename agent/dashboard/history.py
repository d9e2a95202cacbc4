"""What a page that is opened late is told of the last minutes."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

from agent.clock import MS
from agent.types import Decided

Json = Mapping[str, Any]

DECISIONS = 4_096
SAYINGS = 200
EVENTS = 500
"""Bounds by number, beside the one by time."""


def point(decided: Decided, t_ms: float) -> dict[str, Any]:
    """A decision as the timeline shows it; ``m``: label, confidence and share of a modality, or why it is missing."""
    d = decided.decision
    heard = {m.value: [c.label, round(c.confidence, 3), round(c.contribution, 3)] for m, c in d.modalities.items()}
    return {
        "t": t_ms,
        "seq": d.seq,
        "label": d.label,
        "p": round(d.confidence, 3),
        "conflict": round(d.conflict, 3),
        "ms": round(d.latency.total / MS, 1),
        "m": heard | {m.value: reason.value for m, reason in d.missing.items()},
    }


class History:
    """The points, sayings and events of the last ``span_ms``, each bounded by number too; the oldest go first."""

    def __init__(self, span_ms: float) -> None:
        self._span_ms = span_ms
        self._kept: dict[str, deque[Json]] = {
            "points": deque(maxlen=DECISIONS),
            "sayings": deque(maxlen=SAYINGS),
            "events": deque(maxlen=EVENTS),
        }

    def add(self, kind: str, item: Json) -> None:
        """Remember an item of a kind, which has its instant under ``t`` in ms since the Unix epoch."""
        kept = self._kept[kind]
        kept.append(item)
        while kept[0]["t"] < item["t"] - self._span_ms:
            kept.popleft()

    def all(self, now_ms: float) -> dict[str, list[Json]]:
        """What is not older than the span, by kind, in the order in which it came."""
        return {
            kind: [item for item in kept if item["t"] >= now_ms - self._span_ms] for kind, kept in self._kept.items()
        }
