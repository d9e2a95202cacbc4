"""Decisions and events as the JSON that is published: the wire format, version 1."""

from __future__ import annotations

import json
from typing import Any

from agent.clock import MS, WallClock, rfc3339
from agent.events import Event
from agent.types import Contribution, Decision

SCHEMA = 1


def decision_payload(decision: Decision, *, node: str, wall: WallClock) -> dict[str, Any]:
    """The decision as JSON-ready values. Nanoseconds are strings, because they exceed 2^53.

    ``clock`` is there once the wall clock has stepped back by more than a minute, and says how often: times of
    decisions on either side of such a step do not compare.
    """
    start_ns, end_ns = wall.wall_ns(decision.start_ns), wall.wall_ns(decision.end_ns)
    latency = decision.latency
    return {
        "schema": SCHEMA,
        "node": node,
        "seq": decision.seq,
        "id": decision.id,
        "window": {
            "start": rfc3339(start_ns),
            "end": rfc3339(end_ns),
            "start_ns": str(start_ns),
            "end_ns": str(end_ns),
        },
        "label": decision.label,
        "confidence": _short(decision.confidence),
        "abstained": decision.abstained,
        "conflict": _short(decision.conflict),
        "rule": decision.rule,
        "probabilities": {label: _short(p) for label, p in decision.probabilities.items()},
        "dimensions": {name: _short(value) for name, value in decision.dimensions.items()},
        "modalities": {m.value: _contribution(c) for m, c in decision.modalities.items()},
        "missing": {m.value: reason.value for m, reason in decision.missing.items()},
        "latency_ms": {
            "align": _ms(latency.align),
            "encode": _ms(latency.encode),
            "fuse": _ms(latency.fuse),
            "total": _ms(latency.total),
        },
        **({"clock": {"steps_back": wall.steps_back}} if wall.steps_back else {}),
    }


def event_payload(event: Event, *, node: str, wall: WallClock) -> dict[str, Any]:
    """The event as JSON-ready values; ``id`` and ``decision`` together name this message."""
    since_ns, at_ns = wall.wall_ns(event.since_ns), wall.wall_ns(event.at_ns)
    return {
        "schema": SCHEMA,
        "node": node,
        "type": event.kind.value,
        "id": event.id,
        "rule": event.rule,
        "label": event.label,
        "confidence": _short(event.confidence),
        "peak": _short(event.peak),
        "since": rfc3339(since_ns),
        "time": rfc3339(at_ns),
        "since_ns": str(since_ns),
        "time_ns": str(at_ns),
        "decision": event.decision,
        **({"reason": event.why.value} if event.why else {}),
    }


def encode(payload: object) -> bytes:
    """JSON in UTF-8, without spaces."""
    return json.dumps(payload, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def _contribution(c: Contribution) -> dict[str, Any]:
    return {
        "label": c.label,
        "confidence": _short(c.confidence),
        "weight": _short(c.weight),
        "quality": _short(c.quality),
        "age_ms": _ms(c.age_ns),
        "contribution": _short(c.contribution),
        "source": c.source,
        "engine": c.engine,
        "encode_ms": _ms(c.encode_ns),
        **({"rivals": {source: _short(q) for source, q in c.rivals.items()}} if c.rivals else {}),
    }


def _short(x: float) -> float:
    return round(float(x), 4)


def _ms(ns: int) -> float:
    return round(ns / MS, 3)
