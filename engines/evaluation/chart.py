"""Line charts as SVG, which needs no library to write and a web page to show."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 420, 300
LEFT, RIGHT, TOP, BOTTOM = 50, 110, 36, 44
"""Margins of a panel in pixels; the legend stands in the right one."""
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999999")
"""Told apart by the colour-blind too (Okabe & Ito 2008); lines beyond these are dashed."""


@dataclass(frozen=True, slots=True)
class Panel:
    """One pair of axes; y runs from 0 to 1."""

    title: str
    x_label: str
    y_label: str
    series: Mapping[str, Sequence[tuple[float, float]]]
    """By name, the points (x, y), x rising; the panel's x runs from the least to the greatest."""


def svg(panels: Sequence[Panel]) -> str:
    """The panels side by side."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH * len(panels)}" height="{HEIGHT}"'
        ' font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for number, panel in enumerate(panels):
        parts += [f'<g transform="translate({WIDTH * number},0)">', *_drawn(panel), "</g>"]
    return "\n".join([*parts, "</svg>", ""])


def _drawn(panel: Panel) -> list[str]:
    xs = [x for points in panel.series.values() for x, _ in points]
    least, most = min(xs), max(xs)
    wide, high = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def across(x: float) -> float:
        return LEFT + wide * ((x - least) / (most - least) if most > least else 0.5)

    def down(y: float) -> float:
        return TOP + high * (1 - y)

    parts = [_text(LEFT, 20, panel.title, 'font-weight="bold"')]
    for y in ticks(0, 1):
        parts.append(f'<path d="M{LEFT},{down(y):.1f}h{wide}" stroke="#ddd"/>')
        parts.append(_text(LEFT - 6, down(y) + 4, f"{y:.1f}", 'text-anchor="end"'))
    for x in ticks(least, most):
        parts.append(_text(across(x), HEIGHT - BOTTOM + 16, f"{x:g}", 'text-anchor="middle"'))
    parts.append(_text(LEFT + wide / 2, HEIGHT - 8, panel.x_label, 'text-anchor="middle"'))
    parts.append(
        _text(0, 0, panel.y_label, f'text-anchor="middle" transform="translate(14,{TOP + high / 2}) rotate(-90)"')
    )
    for number, (name, points) in enumerate(panel.series.items()):
        again, place = divmod(number, len(COLOURS))
        stroke = f'stroke="{COLOURS[place]}" stroke-width="2"' + (' stroke-dasharray="5 3"' if again else "")
        line = " ".join(f"{across(x):.1f},{down(y):.1f}" for x, y in points)
        parts.append(f'<polyline points="{line}" fill="none" {stroke}/>')
        y = TOP + 8 + 16 * number
        parts.append(f'<path d="M{WIDTH - RIGHT + 8},{y}h14" {stroke}/>')
        parts.append(_text(WIDTH - RIGHT + 28, y + 4, name, ""))
    return parts


def ticks(least: float, most: float) -> list[float]:
    """Three to six round numbers from `least` to `most`: multiples of 1, 2 or 5 times a power of ten."""
    if not most > least:
        return [least]
    power = 10.0 ** math.floor(math.log10((most - least) / 5))
    step = next(step for factor in (1, 2, 5, 10) if (most - least) / (step := factor * power) < 5.5)
    first, last = math.ceil(least / step - 1e-9), math.floor(most / step + 1e-9)
    return [round(n * step, 12) for n in range(first, last + 1)]


def _text(x: float, y: float, words: str, attributes: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {attributes}>{escape(words)}</text>'
