"""Whether the labels' colours can be told apart, from one another and from what is behind them, by everybody."""

import re
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from agent.config import LABELS

STYLE = Path(__file__).parent.parent / "agent" / "dashboard" / "static" / "style.css"
THEMES = {"light": 0, "dark": 1}
SIGHTS = {
    "normal": np.eye(3),
    "protan": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deutan": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritan": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}
"""On linear RGB; Machado, Oliveira and Fernandes, IEEE TVCG 15 (2009), table 1, severity 1.0."""
APART = 10.0
"""Distance in CIELAB: some four just noticeable differences of 2.3 (Mahy et al., 1994)."""
AGAINST = 3.0
"""Contrast of what has to be seen to what is beside it (WCAG 2.2, 1.4.11)."""

Colour = npt.NDArray[np.float64]


def declared(name: str, theme: str) -> Colour:
    """The colour of that name in linear RGB, 0..1."""
    found = re.search(rf"--{name}: light-dark\((#\w{{6}}), (#\w{{6}})\)", STYLE.read_text(encoding="utf-8"))
    assert found, name
    srgb = np.array([int(found[THEMES[theme] + 1][i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def luminance(colour: Colour) -> float:
    return float(colour @ [0.2126, 0.7152, 0.0722])


@pytest.mark.parametrize("sight", SIGHTS)
@pytest.mark.parametrize("theme", THEMES)
def test_labels_can_be_told_apart_by_colour(theme: str, sight: str) -> None:
    def lab(label: str) -> Colour:
        seen = np.clip(SIGHTS[sight] @ declared(label, theme), 0, 1).astype(np.float32)
        return np.asarray(cv2.cvtColor(seen[None, None], cv2.COLOR_LRGB2Lab)[0, 0], np.float64)

    apart = {pair: round(float(np.linalg.norm(lab(pair[0]) - lab(pair[1]))), 1) for pair in combinations(LABELS, 2)}
    assert min(apart.values()) >= APART, sorted(apart.items(), key=lambda item: item[1])[:4]


@pytest.mark.parametrize("theme", THEMES)
def test_bars_stand_out_from_the_card(theme: str) -> None:
    card = luminance(declared("card", theme))
    for label in (*LABELS, "accent", "good", "bad", "wait"):
        bright, dim = sorted((luminance(declared(label, theme)), card), reverse=True)
        assert (bright + 0.05) / (dim + 0.05) >= AGAINST, label
