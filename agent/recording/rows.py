"""Rows of a recording: what `agent.recording.format` calls `ORDER` and `WINDOW`, as JSON-ready values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from agent.clock import WallClock
from agent.recording.format import Fed, Kind, Mark, Reloaded, Switched
from agent.types import Audio, Decided, Sample, Text, Watermark


def order_row(what: Fed, n: int, fed_ns: int) -> dict[str, Any]:
    """The row of what came; a sample is number ``n`` of its source."""
    row: dict[str, Any] = {"fed_ns": str(fed_ns)}
    match what:
        case Switched(on):
            row |= {"kind": Kind.SWITCHED.value, "on": on}
        case Reloaded(changed):
            row |= {"kind": Kind.RELOADED.value, "changed": list(changed)}
        case Mark(source, state):
            row |= {"kind": Kind.MARK.value, "source": source, "state": state.name}
        case Watermark(source, t_ns):
            row |= {"kind": Kind.WATERMARK.value, "source": source, "t_ns": str(t_ns)}
        case Sample():
            row |= {"kind": Kind.SAMPLE.value, "source": what.source, "n": n}
            row |= {name: str(getattr(what, name)) for name in ("t_ns", "end_ns", "arrival_ns")}
            match what.payload:
                case Audio(pcm):
                    row["size"] = len(pcm)
                case Text(lang=lang, origin=origin):
                    row["origin"] = origin
                    if lang is not None:
                        row["lang"] = lang
    return row


def window_row(decided: Decided, numbers: Mapping[Sample, int], wall: WallClock, now_ns: int) -> dict[str, Any]:
    """The row of a decided window; ``numbers`` are those of the samples that were recorded."""
    window, course, decision = decided.window, decided.course, decided.decision
    held = [sample for part in window.parts.values() for sample in part]
    return {
        "session": decision.session,
        "seq": decision.seq,
        "start_ns": str(window.start_ns),
        "end_ns": str(window.end_ns),
        "cut_ns": str(window.cut_ns),
        "decided_ns": str(now_ns),
        "settled": window.settled,
        "wall": {"start_ns": str(wall.wall_ns(window.start_ns)), "end_ns": str(wall.wall_ns(window.end_ns))},
        "steps_back": wall.steps_back,
        "parts": {m.value: _runs(part, numbers) for m, part in window.parts.items()},
        "given": {m.value: _runs(part, numbers) for m, part in course.given.items()},
        "missing": {m.value: reason.value for m, reason in window.missing.items()},
        "spared": sorted(course.spared),
        "late": sorted(course.late),
        "failed": sorted(course.failed),
        "lost": sum(sample not in numbers for sample in held),
    }


def _runs(samples: Iterable[Sample], numbers: Mapping[Sample, int]) -> list[list[Any]]:
    """The samples in their order as runs ``[source, first, last]`` of their numbers."""
    runs: list[list[Any]] = []
    for sample in samples:
        if (n := numbers.get(sample)) is None:
            continue
        if runs and runs[-1][0] == sample.source and n == runs[-1][2] + 1:
            runs[-1][2] = n
        else:
            runs.append([sample.source, n, n])
    return runs
