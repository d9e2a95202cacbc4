"""``replay --compare``: where the decisions of two runs differ, as a table and as a picture."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from agent.process import DONE, FAILED, WRONG

SHOWN = 40
"""Rows of the table at most; the sums are over all."""
SLIGHT = 0.05
"""Difference in a probability below which the same label counts as alike."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One window as both runs decided it; None where a run has no decision for it."""

    end: str
    end_ns: int
    left: Mapping[str, Any] | None
    right: Mapping[str, Any] | None

    @property
    def moved(self) -> float:
        """Half the sum of the differences of the probabilities (total variation), 0..1."""
        if self.left is None or self.right is None:
            return 1.0
        one, other = self.left["probabilities"], self.right["probabilities"]
        return float(sum(abs(one.get(label, 0.0) - other.get(label, 0.0)) for label in sorted({*one, *other}))) / 2

    @property
    def relabelled(self) -> bool:
        """Whether the labels differ, or a run has none."""
        return self.left is None or self.right is None or self.left["label"] != self.right["label"]


def compare(args: argparse.Namespace, *, out: Console) -> int:
    """Print where two files of decisions differ, and draw it where ``--plot`` asks for that."""
    left, right = args.compare
    try:
        pairs = paired(read(left), read(right))
    except ValueError as error:
        print(error, file=sys.stderr)
        return WRONG
    _show(pairs, names=(str(left), str(right)), out=out)
    return _draw(pairs, args) if args.plot and pairs else DONE


def _draw(pairs: Sequence[Pair], args: argparse.Namespace) -> int:
    try:
        from agent.showing.chart import draw_apart
    except ImportError as error:
        print(f"--plot: {error.name} is not installed; pip install 'attune[plot]'", file=sys.stderr)
        return FAILED
    left, right = map(str, args.compare)
    runs = {left: [pair.left for pair in pairs], right: [pair.right for pair in pairs]}
    try:
        draw_apart(runs, [pair.moved for pair in pairs], args.plot)
    except (OSError, ValueError) as error:  # a suffix that names no kind of picture is a ValueError
        print(f"--plot {args.plot}: cannot be drawn: {error}", file=sys.stderr)
        return FAILED
    return DONE


def read(path: Path) -> list[dict[str, Any]]:
    """The decisions of a ``--out`` file. Raises `ValueError` with the line's number."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read ({error}); give what `replay --out` wrote") from None
    return [_decision(line, f"{path}, line {number}") for number, line in enumerate(lines, 1) if line.strip()]


def _decision(line: str, place: str) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(line)
        int(found["window"]["end_ns"]), found["window"]["end"], found["label"], found["modalities"], found["missing"]
        sum(found["probabilities"].values())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{place}: not a decision ({error!r}); give what `replay --out` wrote") from None
    return found


def paired(left: Sequence[dict[str, Any]], right: Sequence[dict[str, Any]]) -> list[Pair]:
    """Decisions of windows that end at the same instant, in the order of time."""
    ends = [{int(decision["window"]["end_ns"]): decision for decision in decisions} for decisions in (left, right)]
    pairs = []
    for end_ns in sorted({*ends[0], *ends[1]}):
        one, other = (decisions.get(end_ns) for decisions in ends)
        known = one or other
        assert known is not None, "it is in one of them"
        pairs.append(Pair(known["window"]["end"], end_ns, one, other))
    return pairs


def _show(pairs: Sequence[Pair], *, names: tuple[str, str], out: Console) -> None:
    apart = [pair for pair in pairs if pair.relabelled or pair.moved >= SLIGHT]
    title = f"windows with another label, or moved by {SLIGHT} and more: {len(apart)}"
    table = Table("window ends", *names, "moved by", "what else is new", title=title)
    for pair in apart[:SHOWN]:
        table.add_row(pair.end, _said(pair.left), _said(pair.right), f"{pair.moved:.2f}", _else(pair))
    if apart:
        out.print(table)
    if len(apart) > SHOWN:
        out.print(f"… and {len(apart) - SHOWN} more")
    both = [pair for pair in pairs if pair.left and pair.right]
    same = sum(untimed(pair.left) == untimed(pair.right) for pair in both)
    relabelled = sum(pair.relabelled for pair in both)
    mean = sum(pair.moved for pair in both) / max(1, len(both))
    out.print(
        f"{len(both)} windows in both: {same} alike in all but latencies, {relabelled} with another label,"
        f" probabilities moved by {mean:.3f} on average and {max((p.moved for p in both), default=0.0):.3f} at most;"
        f" {sum(p.right is None for p in pairs)} only in {names[0]}, {sum(p.left is None for p in pairs)} only in"
        f" {names[1]}",
        soft_wrap=True,
    )


def untimed(decision: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """A decision without how long things took."""
    if decision is None:
        return None
    modalities = {m: {k: v for k, v in said.items() if k != "encode_ms"} for m, said in decision["modalities"].items()}
    return {key: value for key, value in decision.items() if key != "latency_ms"} | {"modalities": modalities}


def _said(decision: Mapping[str, Any] | None) -> str:
    if decision is None:
        return "no decision"
    return f"{decision['label'] or 'abstained'} {decision['confidence']:.2f}"


def _else(pair: Pair) -> str:
    """Which modalities are there on one side alone, or missing for another reason."""
    if pair.left is None or pair.right is None:
        return ""
    one, other = pair.left["missing"], pair.right["missing"]
    return ", ".join(
        f"{m}: {one.get(m, 'there')} → {other.get(m, 'there')}"
        for m in sorted({*one, *other})
        if one.get(m) != other.get(m)
    )
