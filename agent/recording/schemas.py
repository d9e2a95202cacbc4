"""JSON Schemas of what has no schema of Foxglove's: decisions as they are published, and what a replay needs.

They stand in the files themselves, so that a recording explains itself. Instants are strings of ns, because they
exceed 2^53.
"""

from __future__ import annotations

from typing import Any

_DRAFT = "https://json-schema.org/draft/2020-12/schema"
_NS: dict[str, Any] = {"type": "string", "pattern": "^-?[0-9]+$"}
_SHARE: dict[str, Any] = {"type": "number", "minimum": 0, "maximum": 1}
_COUNT: dict[str, Any] = {"type": "integer", "minimum": 0}
_WORDS: dict[str, Any] = {"type": "string"}
_MODALITIES: dict[str, Any] = {"type": "array", "items": {"enum": ["vision", "audio", "text"]}}


def _object(required: dict[str, Any], optional: dict[str, Any] | None = None) -> dict[str, Any]:
    properties = {**required, **(optional or {})}
    return {"type": "object", "properties": properties, "required": list(required)}


def _titled(title: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"$schema": _DRAFT, "title": title, "description": description, **schema}


def _map(values: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": values}


_CONTRIBUTION = _object(
    {
        "label": _WORDS,
        "confidence": _SHARE,
        "weight": _SHARE,
        "quality": _SHARE,
        "age_ms": {"type": "number", "minimum": 0},
        "contribution": _SHARE,
        "source": _WORDS,
        "engine": _WORDS,
        "encode_ms": {"type": "number"},
    },
    {"rivals": _map(_SHARE)},
)
_LATENCY = _object({part: {"type": "number"} for part in ("align", "encode", "fuse", "total")})

_DECISION = _object(
    {
        "schema": {"const": 1},
        "node": _WORDS,
        "seq": _COUNT,
        "id": _WORDS,
        "window": _object(
            {
                "start": {"type": "string", "format": "date-time"},
                "end": {"type": "string", "format": "date-time"},
                "start_ns": _NS,
                "end_ns": _NS,
            }
        ),
        "label": {"type": ["string", "null"]},
        "confidence": _SHARE,
        "abstained": {"type": "boolean"},
        "conflict": _SHARE,
        "rule": _WORDS,
        "probabilities": _map(_SHARE),
        "dimensions": _map({"type": "number"}),
        "modalities": _map(_CONTRIBUTION),
        "missing": _map({"enum": ["silent", "late", "failed", "skipped", "disabled"]}),
        "latency_ms": _LATENCY,
    },
    {"clock": _object({"steps_back": _COUNT})},
)
DECISION = _titled("attune.Decision", _DECISION, "A decision as it is published over MQTT.")

_ORDER = _object(
    {"kind": {"enum": ["sample", "watermark", "mark", "switched", "reloaded"]}, "fed_ns": _NS},
    {
        "source": _WORDS,
        "n": _COUNT,
        "t_ns": _NS,
        "end_ns": _NS,
        "arrival_ns": _NS,
        "size": _COUNT,
        "coded": _WORDS,
        "lang": _WORDS,
        "origin": {"enum": ["message", "speech"]},
        "lost": {"const": True},
        "state": {"enum": ["LIVE", "FAILED", "DISABLED"]},
        "on": {"type": "boolean"},
        "changed": {"type": "array", "items": _WORDS},
    },
)
ORDER = _titled(
    "attune.Order",
    _ORDER,
    "What the agent was fed, in this order; n counts the samples of a source. Stamps are those of its monotonic clock."
    " When sensing was switched off or on, and which keys of the config were reloaded, is said in between.",
)

_RUN: dict[str, Any] = {"type": "array", "prefixItems": [_WORDS, _COUNT, _COUNT], "items": False}
_RUNS: dict[str, Any] = _map({"type": "array", "items": _RUN})

_WINDOW = _object(
    {
        "session": _WORDS,
        "seq": _COUNT,
        "start_ns": _NS,
        "end_ns": _NS,
        "cut_ns": _NS,
        "decided_ns": _NS,
        "settled": {"type": "boolean"},
        "wall": _object({"start_ns": _NS, "end_ns": _NS}),
        "steps_back": _COUNT,
        "parts": _RUNS,
        "given": _RUNS,
        "missing": _map({"enum": ["silent", "late", "failed", "disabled"]}),
        "spared": _MODALITIES,
        "late": _MODALITIES,
        "failed": _MODALITIES,
        "lost": _COUNT,
    },
)
WINDOW = _titled(
    "attune.Window",
    _WINDOW,
    "A decided window: runs [source, first n, last n] of its samples, and how the encoders fared."
    " An end between two of them that is not here was passed over.",
)

EVENT = _titled(
    "attune.Event",
    _object({"type": {"enum": ["new", "update", "end"]}, "id": _WORDS, "label": _WORDS}),
    "An event as it is published over MQTT.",
)
METRICS = _titled(
    "attune.Metrics",
    {"type": "object"},
    "Counters and latencies as they are published over MQTT; `dropped` counts by source and reason.",
)
