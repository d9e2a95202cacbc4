"""Whether what an encoder says is evidence at all: a model that went wrong must not reach the fused result."""

from __future__ import annotations

import math

import numpy as np

from agent.types import F64, Evidence, Modality

SUM_TOLERANCE = 1e-3
"""By which the sum of a distribution may miss 1: float32 softmax over a few labels misses it by 1e-6."""


def flaw(evidence: Evidence, modality: Modality, labels: int) -> str | None:
    """What is wrong with evidence about so many labels, in words; None when nothing is."""
    if evidence.modality is not modality:
        return f"it is about {evidence.modality}"
    for name, probs in (("posterior", evidence.probs), ("prior", evidence.prior)):
        if said := _flaw_of(probs, labels):
            return f"its {name} {said}"
    if not 0 <= evidence.quality <= 1:  # nor is NaN
        return f"its quality is {evidence.quality}, and not from 0 to 1"
    wrong = [name for name, value in evidence.dimensions.items() if not math.isfinite(value)]
    return f"its {wrong[0]} is {evidence.dimensions[wrong[0]]}" if wrong else None


def _flaw_of(probs: F64, labels: int) -> str | None:
    if np.shape(probs) != (labels,):
        return f"has the shape {np.shape(probs)}; there are {labels} labels"
    if not np.isfinite(probs).all():
        return "is not finite"
    if (probs < 0).any() or abs(float(probs.sum()) - 1) > SUM_TOLERANCE:
        return f"is no distribution: least {float(probs.min()):.3g}, sum {float(probs.sum()):.6g}"
    return None
