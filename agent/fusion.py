"""Decision-level fusion: one posterior out of several.

A rule is one class with `combine`. It takes what M modalities say about K labels:

- ``probs`` (M, K): a calibrated posterior a modality,
- ``weights`` (M,): how far each is to be trusted now, 0..1; 0 is as if that modality were not there,
- ``priors`` (M, K): the class prior under which each posterior was trained,
- ``prior`` (K,): the agent's own prior, which is the answer when all weights are zero.

To add a rule, write its class here and put it into `RULES`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
TINY = 1e-12
"""Probabilities are kept above this, so that no single modality can rule a label out for good."""


@dataclass(frozen=True, slots=True, eq=False)
class Combined:
    """What a rule makes of the modalities."""

    probs: Floats
    """(K,), sums to 1."""
    conflict: float
    """0 (they agree, or there is but one) .. 1 (they exclude one another), see `conflict`."""
    shares: Floats
    """(M,), what each contributed; sums to 1, or to 0 when all weights are zero."""


class Rule(Protocol):
    """A way of combining posteriors."""

    name: ClassVar[str]
    """As in the config and in decisions."""

    def combine(self, probs: Floats, weights: Floats, priors: Floats, prior: Floats) -> Combined:
        """Fuse (M, K) posteriors; raises `ValueError` where shapes or values are not as the module says."""


class Bayes:
    """Log-linear pool with prior correction: log P = log π + Σ w_m (log p_m - log π_m) - log Z.

    With all weights 1 it is naive Bayes, right when the modalities are independent given the label (Kittler et al.
    1998; Chen et al. 2022, ProbEn).
    """

    name: ClassVar[str] = "bayes"

    def combine(self, probs: Floats, weights: Floats, priors: Floats, prior: Floats) -> Combined:
        probs, weights, priors, prior = _checked(probs, weights, priors, prior)
        pulls = weights[:, None] * (np.log(probs) - np.log(priors))  # (M, K)
        fused = _softmax(np.log(prior) + pulls.sum(axis=0))
        strength = np.ptp(pulls, axis=1) if pulls.size else np.zeros(len(weights))
        return Combined(fused, conflict(probs, weights), _normalised(strength))


class Mean:
    """Weighted mean of the posteriors: the sum rule, the most robust to posteriors that are wrong (Kittler 1998)."""

    name: ClassVar[str] = "mean"

    def combine(self, probs: Floats, weights: Floats, priors: Floats, prior: Floats) -> Combined:
        probs, weights, priors, prior = _checked(probs, weights, priors, prior)
        shares = _normalised(weights)
        fused = shares @ probs if weights.any() else prior
        return Combined(fused, conflict(probs, weights), shares)


class Max:
    """The most confident modality decides each label: P ∝ max_m w_m p_m (Kittler's max rule, weighted)."""

    name: ClassVar[str] = "max"

    def combine(self, probs: Floats, weights: Floats, priors: Floats, prior: Floats) -> Combined:
        probs, weights, priors, prior = _checked(probs, weights, priors, prior)
        weighted = weights[:, None] * probs  # (M, K)
        fused = _normalised(weighted.max(axis=0)) if weights.any() else prior
        won = np.zeros_like(weighted)
        if weights.any():
            won[weighted.argmax(axis=0), np.arange(len(fused))] = fused
        return Combined(fused, conflict(probs, weights), won.sum(axis=1))


class Vote:
    """Weighted majority: each modality votes for its most probable label; labels that tie in it share its vote."""

    name: ClassVar[str] = "vote"

    def combine(self, probs: Floats, weights: Floats, priors: Floats, prior: Floats) -> Combined:
        probs, weights, priors, prior = _checked(probs, weights, priors, prior)
        top = (probs >= probs.max(axis=1, keepdims=True)).astype(np.float64)  # (M, K)
        shares = _normalised(weights)
        fused = shares @ (top / top.sum(axis=1, keepdims=True)) if weights.any() else prior
        return Combined(fused, conflict(probs, weights), shares)


RULES: Mapping[str, type[Rule]] = {rule.name: rule for rule in (Bayes, Mean, Max, Vote)}
"""The rules by the name that the config calls them."""


def conflict(probs: Floats, weights: Floats) -> float:
    """How far the posteriors (M, K) disagree under the weights (M,), 0..1.

    The generalised Jensen-Shannon divergence (Lin 1991) of the posteriors under the normalised weights, over log M':
    0 for equal posteriors, 1 for posteriors without overlap that weigh the same; M' counts the weights above 0. What
    hardly weighs hardly conflicts.
    """
    shares = _normalised(weights)
    shares, probs = shares[shares > 0], probs[weights > 0]
    if len(shares) < 2:
        return 0.0
    divergence = _entropy(shares @ probs) - float(shares @ np.array([_entropy(row) for row in probs]))
    return float(np.clip(divergence / np.log(len(shares)), 0.0, 1.0))


def _entropy(p: Floats) -> float:
    p = p[p > 0]
    return float(-(p * np.log(p)).sum())


def _softmax(logits: Floats) -> Floats:
    e = np.exp(logits - logits.max())
    return np.asarray(e / e.sum())


def _normalised(x: Floats) -> Floats:
    total = x.sum()
    return x / total if total > 0 else np.zeros_like(x)


def _checked(probs: Floats, weights: Floats, priors: Floats, prior: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """The arguments as float64, distributions floored at `TINY` and normalised; raises `ValueError` on a misfit."""
    probs, weights, priors, prior = (np.asarray(x, np.float64) for x in (probs, weights, priors, prior))
    shape = (weights.size, prior.size)
    if not weights.size:  # no modality at all: whatever shape an empty argument has
        probs = priors = np.empty(shape)
    if weights.ndim != 1 or prior.ndim != 1 or probs.shape != shape or priors.shape != shape:
        found = f"probs {probs.shape}, weights {weights.shape}, priors {priors.shape}, prior {prior.shape}"
        raise ValueError(f"fusion: shapes must be (M, K), (M,), (M, K), (K,); found {found}")
    for name, x in (("probs", probs), ("weights", weights), ("priors", priors), ("prior", prior)):
        if not (np.isfinite(x).all() and (x >= 0).all()):
            raise ValueError(f"fusion: {name} must be finite and not negative; found {x.tolist()}")
    return _floored(probs), weights, _floored(priors), _floored(prior)


def _floored(p: Floats) -> Floats:
    p = np.maximum(p, TINY)
    return np.asarray(p / p.sum(axis=-1, keepdims=True))
