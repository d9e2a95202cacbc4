"""Decisions over time as a picture (SVG): one strip a run, and below how far they are apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from xml.sax.saxutils import escape

NEUTRAL, GREY = "neutral", "#9aa0a6"
COLOURS = ("#e69f00", "#56b4e9", "#d55e00", "#8e6bbf", "#009e73", "#cc79a7", "#0072b2", "#b8a800", "#444444")
"""Of the other labels, in the order in which they first come; the colour-blind tell them apart (Okabe and Ito 2008)."""
WIDTH, LEFT, RIGHT, STRIP, GAP, APART = 1000, 60, 15, 70, 34, 60


@dataclass(frozen=True, slots=True)
class Strip:
    """The decisions of one run."""

    name: str
    ends_ns: Sequence[int]
    labels: Sequence[str | None]
    """None where it abstained or did not decide."""
    confidences: Sequence[float]
    """0..1."""


def timeline(strips: Sequence[Strip], apart: Sequence[float]) -> str:
    """An SVG of runs over the same windows; ``apart`` is 0..1 for each window."""
    labels = list(dict.fromkeys(label for strip in strips for label in strip.labels if label))
    told = [label for label in labels if label != NEUTRAL]
    colours = {NEUTRAL: GREY} if NEUTRAL in labels else {}
    colours |= {label: COLOURS[i % len(COLOURS)] for i, label in enumerate(told)}
    height = 40 + len(strips) * (STRIP + GAP) + APART + GAP + 20
    ends_ns = strips[0].ends_ns
    first_ns, last_ns = (ends_ns[0], ends_ns[-1]) if ends_ns else (0, 0)
    step_ns = min((b - a for a, b in pairwise(ends_ns)), default=1)
    scale = (WIDTH - LEFT - RIGHT) / max(1, last_ns - first_ns + step_ns)

    def x(t_ns: int) -> float:
        return LEFT + (t_ns - first_ns) * scale

    body = [_legend(colours)]
    top = 40.0
    for strip in strips:
        body.append(_text(LEFT, top + 12, strip.name))
        for end_ns, label, confidence in zip(strip.ends_ns, strip.labels, strip.confidences, strict=True):
            if label:
                tall = STRIP * confidence
                y = top + GAP / 2 + STRIP - tall
                body.append(_bar(x(end_ns), y, step_ns * scale, tall, colours[label], f"{label} {confidence:.2f}"))
        body.append(_line(top + GAP / 2 + STRIP))
        top += STRIP + GAP
    body.append(_text(LEFT, top + 12, "how far apart (total variation)"))
    for end_ns, moved in zip(ends_ns, apart, strict=True):
        tall = APART * moved
        body.append(_bar(x(end_ns), top + GAP / 2 + APART - tall, step_ns * scale, tall, "#b00020", f"{moved:.2f}"))
    top += APART + GAP / 2
    body += [
        _line(top),
        _text(LEFT, top + 16, "0 s"),
        _text(WIDTH - 60, top + 16, f"{(last_ns - first_ns) / 1e9:.0f} s"),
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
        f' font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="#ffffff"/>'
        f"{''.join(body)}</svg>\n"
    )


def _legend(colours: dict[str, str]) -> str:
    shown, x = [], float(LEFT)
    for label, colour in colours.items():
        shown += [_bar(x, 12, 12, 12, colour, label), _text(x + 16, 22, label)]
        x += 34 + 7 * len(label)
    return "".join(shown)


def _bar(x: float, y: float, width: float, height: float, colour: str, said: str) -> str:
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0.5):.2f}" height="{height:.1f}" fill="{colour}">'
        f"<title>{escape(said)}</title></rect>"
    )


def _text(x: float, y: float, said: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="#202124">{escape(said)}</text>'


def _line(y: float) -> str:
    return f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#888"/>'
