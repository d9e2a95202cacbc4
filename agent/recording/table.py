"""Decisions as a table of columns, for Parquet: what `agent.payload` publishes, made flat."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from agent.types import Modality

PLAIN = {
    "seq": pa.int64(),
    "id": pa.string(),
    "node": pa.string(),
    "label": pa.string(),
    "confidence": pa.float64(),
    "conflict": pa.float64(),
    "abstained": pa.bool_(),
    "rule": pa.string(),
}
STAMP = pa.timestamp("ns", tz="UTC")
OF_A_MODALITY = {
    "label": pa.string(),
    "confidence": pa.float64(),
    "weight": pa.float64(),
    "quality": pa.float64(),
    "contribution": pa.float64(),
    "age_ms": pa.float64(),
    "encode_ms": pa.float64(),
    "source": pa.string(),
}


def decisions_table(payloads: Sequence[Mapping[str, Any]]) -> pa.Table:
    """A row each decision as published; null is what a decision does not have.

    Columns: the plain fields; ``window_start`` and ``window_end`` in UTC; ``p_LABEL``; ``valence``, ``arousal``; for
    each modality ``M_label``, ``M_confidence``, ``M_weight``… (`OF_A_MODALITY`) or ``M_missing``; ``total_ms`` and the
    other latencies.
    """
    columns: dict[str, pa.Array] = {name: pa.array([p[name] for p in payloads], kind) for name, kind in PLAIN.items()}
    for end in ("start", "end"):
        columns[f"window_{end}"] = pa.array([int(p["window"][f"{end}_ns"]) for p in payloads], pa.int64()).cast(STAMP)
    for pattern, field in (("p_{}", "probabilities"), ("{}", "dimensions"), ("{}_ms", "latency_ms")):
        for name in dict.fromkeys(name for p in payloads for name in p[field]):
            columns[pattern.format(name)] = pa.array([p[field].get(name) for p in payloads], pa.float64())
    for m in Modality:
        said = [p["modalities"].get(m.value, {}) for p in payloads]
        for name, kind in OF_A_MODALITY.items():
            columns[f"{m}_{name}"] = pa.array([one.get(name) for one in said], kind)
        columns[f"{m}_missing"] = pa.array([p["missing"].get(m.value) for p in payloads], pa.string())
    return pa.table(columns)


def write_parquet(table: pa.Table, path: Path, about: Mapping[str, str]) -> None:
    """Write the file, whole or not at all, with ``about`` in its metadata. Raises `OSError`."""
    draft = path.with_name(f".{path.name}.part")
    named = {f"attune.{key}": value for key, value in about.items()}
    try:
        parquet.write_table(table.replace_schema_metadata(named), draft)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def told_of(path: Path) -> dict[str, str]:
    """What `write_parquet` was told of the file; empty where there is none, or it is damaged or not ours."""
    try:
        found = parquet.read_metadata(path).metadata or {}
    except (OSError, pa.ArrowInvalid):
        return {}
    prefix = b"attune."
    return {key[len(prefix) :].decode(): value.decode() for key, value in found.items() if key.startswith(prefix)}
