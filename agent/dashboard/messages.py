"""What the page is told, over one WebSocket: JSON as text, pictures as binary (`agent.dashboard.picture`).

Every text has a ``type``: ``hello`` comes first, then ``history``, then in any order ``decision``, ``saying``,
``event``, ``sound``, ``metrics``. Instants are ms since the Unix epoch, under ``t``. The page may send
``{"type": "look", "pictures": bool}``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from agent.clock import MS, WallClock
from agent.config import Config
from agent.control.privacy import Outlet, may_leave
from agent.dashboard.history import point
from agent.payload import decision_payload
from agent.types import Decided, Modality, Region, Sample, Text

VERSION = 1
"""Of the protocol; a page of another version asks to be loaded again."""
LONGEST = 2_000
"""Characters of a text that are shown."""


def encoded(kind: str, content: Mapping[str, Any]) -> str:
    """A text message: ASCII, so that half a character in what somebody sent cannot break it."""
    return json.dumps({"type": kind, **content}, separators=(",", ":"), allow_nan=False)


def ms(wall: WallClock, t_ns: int) -> float:
    """An instant as ms since the Unix epoch."""
    return round(wall.wall_ns(t_ns) / MS, 1)


def hello(config: Config, encoders: Mapping[Modality, object]) -> dict[str, Any]:
    """What does not change while the agent runs."""
    tables = dict(config.encoders.items())
    return {
        "v": VERSION,
        "node": config.agent.node,
        "labels": list(config.agent.labels),
        "rule": config.fusion.rule,
        "hop_ms": config.agent.hop / MS,
        "history_ms": config.dashboard.history / MS,
        "preview": may_leave(config, Outlet.DASHBOARD),
        "encoders": {
            m.value: {
                "about": _about(encoders[m]) if m in encoders else None,
                "span_ms": tables[m].span / MS,
                "reliability": tables[m].reliability,
            }
            for m in Modality
        },
    }


def decision(decided: Decided, config: Config, wall: WallClock) -> dict[str, Any]:
    """A decision as it is published, and what it was made of."""
    t_ms = ms(wall, decided.decision.end_ns)
    labels = config.agent.labels
    readings = decided.readings
    return {
        "t": t_ms,
        "point": point(decided, t_ms),
        "decision": decision_payload(decided.decision, node=config.agent.node, wall=wall),
        "posteriors": {
            m.value: {label: round(float(p), 4) for label, p in zip(labels, r.evidence.probs, strict=True)}
            for m, r in readings.items()
            if r.evidence
        },
        "regions": [_region(region, wall) for reading in readings.values() for region in reading.regions],
        "speech": next((round(r.speech, 3) for r in readings.values() if r.speech is not None), None),
    }


def saying(sample: Sample, text: Text, wall: WallClock) -> dict[str, Any]:
    """What was typed or said."""
    return {
        "t": ms(wall, sample.end_ns),
        "source": sample.source,
        "origin": text.origin,
        "lang": text.lang,
        "text": text.text if len(text.text) <= LONGEST else text.text[:LONGEST] + "…",
    }


def _region(region: Region, wall: WallClock) -> dict[str, Any]:
    return {
        "source": region.source,
        "t": ms(wall, region.t_ns),
        "box": [round(share, 4) for share in region.box],
        "landmarks": [[round(x, 4), round(y, 4)] for x, y in region.landmarks],
    }


def _about(encoder: object) -> str:
    """What an encoder runs on: of its line, ``what it reads: model on engine: inputs``, the middle."""
    if type(encoder).__str__ is object.__str__:
        return type(encoder).__name__
    parts = str(encoder).split(": ")
    return parts[1] if len(parts) > 1 else parts[0]
