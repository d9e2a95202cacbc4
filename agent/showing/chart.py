"""Decisions over time as pictures.

Of one run: the answer, what each modality said or why it was missing, and the conflict. Of two: the answers, and how
far they are apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from agent.clock import SECOND
from agent.types import Modality

NEUTRAL, GREY = "neutral", "#9aa0a6"
COLOURS = ("#e69f00", "#0072b2", "#d55e00", "#cc79a7", "#009e73", "#56b4e9", "#8e6bbf", "#b8a800")
"""Of the other labels, in their order; the colour-blind tell them apart (Okabe and Ito 2008)."""
REASONS = {"silent": "#eef0f3", "late": "#fde9c8", "failed": "#f7cfcb", "skipped": "#dbe4fb", "disabled": "#d5d8dd"}
"""Behind a modality that is missing."""
RED = "#d77f8f"
Decisions = Sequence[Mapping[str, Any]]


def draw(decisions: Decisions, path: Path, *, title: str) -> None:
    """Write the picture, of the kind that the suffix names (``.png``, ``.svg``, ``.pdf``).

    ``decisions`` are payloads in the order of time, at least one. Raises `OSError`, and `ValueError` for a suffix that
    names no picture.
    """
    figure = Figure(figsize=(12, 6), layout="constrained")
    axes = figure.subplots(len(Modality) + 2, sharex=True, height_ratios=[2, 1, 1, 1, 1])
    times, step_s = _times(decisions)
    colours = colours_of(decisions)
    _answer(axes[0], times, decisions, colours, step_s)
    axes[0].set_title(title, loc="left", fontsize="medium")
    for axis, modality in zip(axes[1:], Modality, strict=False):
        _modality(axis, times, decisions, modality.value, colours, step_s)
    axes[-1].bar(times, [d["conflict"] for d in decisions], -step_s, align="edge", color=RED)
    axes[-1].set_ylabel("conflict")
    _finish(figure, axes, decisions, path, reasons=REASONS)


def draw_apart(runs: Mapping[str, Sequence[Mapping[str, Any] | None]], apart: Sequence[float], path: Path) -> None:
    """Write the answers of several runs, by name, over the same windows, in one of which at least somebody decided.

    None is a run that did not decide a window; ``apart`` is 0..1 for each window. Raises as `draw`.
    """
    figure = Figure(figsize=(12, 2 * len(runs) + 1.5), layout="constrained")
    axes = figure.subplots(len(runs) + 1, sharex=True)
    known = [next(d for d in window if d is not None) for window in zip(*runs.values(), strict=True)]
    times, step_s = _times(known)
    colours = colours_of(known)
    for axis, (name, decisions) in zip(axes, runs.items(), strict=False):
        there = [(t, d) for t, d in zip(times, decisions, strict=True) if d is not None]
        _answer(axis, [t for t, _ in there], [d for _, d in there], colours, step_s)
        axis.set_title(name, loc="left", fontsize="medium")
    axes[-1].bar(times, apart, -step_s, align="edge", color=RED)
    axes[-1].set_ylabel("total variation")
    _finish(figure, axes, known, path)


def _times(decisions: Decisions) -> tuple[list[float], float]:
    """Seconds after the end of the first window; and from one to the next."""
    ends_ns = [int(decision["window"]["end_ns"]) for decision in decisions]
    step_s = min((b - a for a, b in pairwise(ends_ns)), default=SECOND) / SECOND
    return [(end_ns - ends_ns[0]) / SECOND for end_ns in ends_ns], step_s


def colours_of(decisions: Decisions) -> dict[str, str]:
    """A colour each label."""
    labels = list(dict.fromkeys(label for decision in decisions for label in decision["probabilities"]))
    told = [label for label in labels if label != NEUTRAL]
    found = {label: COLOURS[i % len(COLOURS)] for i, label in enumerate(told)}
    return {label: found.get(label, GREY) for label in labels}


def _answer(axis: Axes, times: list[float], decisions: Decisions, colours: Mapping[str, str], step_s: float) -> None:
    """Bars as high as the answer is sure; none where it abstained."""
    heights = [0.0 if d["label"] is None else d["confidence"] for d in decisions]
    axis.bar(times, heights, -step_s, align="edge", color=[colours.get(d["label"], GREY) for d in decisions])
    axis.set_ylabel("answer")


def _modality(
    axis: Axes, times: list[float], decisions: Decisions, m: str, colours: Mapping[str, str], step_s: float
) -> None:
    """Bars as high as it weighs, coloured by what it says; behind them why it is missing."""
    there = [(t, d["modalities"][m]) for t, d in zip(times, decisions, strict=True) if m in d["modalities"]]
    gone = [(t, d["missing"][m]) for t, d in zip(times, decisions, strict=True) if m in d["missing"]]
    axis.bar([t for t, _ in gone], 1, -step_s, align="edge", color=[REASONS.get(why, GREY) for _, why in gone])
    bars = [(t, said["weight"], colours.get(said["label"], GREY)) for t, said in there]
    axis.bar([t for t, _, _ in bars], [w for _, w, _ in bars], -step_s, align="edge", color=[c for *_, c in bars])
    axis.set_ylabel(m)


def _finish(
    figure: Figure,
    axes: Sequence[Axes],
    decisions: Decisions,
    path: Path,
    reasons: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """What all pictures have in common: scales, the legend, the file."""
    for axis in axes:
        axis.set_ylim(0, 1)
        axis.margins(x=0)
        axis.spines[["top", "right"]].set_visible(False)
    axes[-1].set_xlabel(f"seconds after {decisions[0]['window']['end']}")
    named = {**colours_of(decisions), **reasons}
    handles = [Patch(color=colour, label=name) for name, colour in named.items()]
    figure.legend(handles=handles, loc="outside upper center", ncols=6, frameon=False)
    figure.savefig(path, dpi=120)
