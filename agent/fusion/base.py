"""What every rule of fusion shares: its arguments, its answer, and what holds whatever the rule."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, Self

import numpy as np
import numpy.typing as npt

from agent.fusion.conflict import conflict

Floats = npt.NDArray[np.float64]
Embeddings = Sequence[npt.NDArray[np.float32] | None]
"""Of M modalities, (D_m,) each, or None where one has none; an empty one is none at all."""
TINY = 1e-12
"""Probabilities are kept above this, so that no single modality can rule a label out for good."""


@dataclass(frozen=True, slots=True, eq=False)
class Combined:
    """What a rule makes of the modalities."""

    probs: Floats
    """(K,), sums to 1."""
    conflict: float
    """0 (they agree, or there is but one) .. 1 (they exclude one another): the same measure for every rule, see
    `agent.fusion.conflict`."""
    shares: Floats
    """(M,), what each contributed; sums to 1, or to 0 when nothing did (no weight above 0, or no opinion)."""


@dataclass(frozen=True, slots=True, eq=False)
class Heard:
    """What a rule is given: the modalities whose weight is above 0, of which there is at least one."""

    probs: Floats
    """(M, K), each row a distribution without zeros."""
    weights: Floats
    """(M,), above 0."""
    priors: Floats
    """(M, K), each row a distribution without zeros."""
    prior: Floats
    """(K,), a distribution without zeros."""
    embeddings: Embeddings
    """M of them."""
    rows: npt.NDArray[np.intp]
    """(M,), which rows of the arguments of `combine` these are."""
    count: int
    """How many modalities `combine` was given, those with weight 0 included."""

    def conflict(self) -> float:
        """How far they disagree, 0..1."""
        return conflict(self.probs, self.weights)


class Settings(Protocol):
    """What ``[fusion]`` of the config may set in a rule."""

    @property
    def handover(self) -> float:
        """See `agent.fusion.Bayes`."""

    @property
    def yager_above(self) -> float:
        """See `agent.fusion.Dempster`."""


class Rule(ABC):
    """A way of combining posteriors."""

    name: ClassVar[str]
    """As in the config and in decisions."""

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """The rule as the config sets it."""
        return cls()

    @abstractmethod
    def fuse(self, heard: Heard) -> tuple[Floats, Floats]:
        """The fused posterior (K,) and what each modality contributed (M,); both are normalised afterwards."""

    def combine(
        self, probs: Floats, weights: Floats, priors: Floats, prior: Floats, embeddings: Embeddings = ()
    ) -> Combined:
        """Fuse (M, K) posteriors; raises `ValueError` where shapes or values are not as `agent.fusion` says.

        ``embeddings`` are for the rules that are trained to read them; others pass them over. A modality of weight 0
        leaves no trace: the rule is not shown it.
        """
        probs, weights, priors, prior = _checked(probs, weights, priors, prior)
        shares = np.zeros_like(weights)
        rows = np.flatnonzero(weights)
        if not rows.size:
            return Combined(prior, 0.0, shares)
        own = tuple(embeddings[row] if row < len(embeddings) else None for row in rows.tolist())
        heard = Heard(probs[rows], weights[rows], priors[rows], prior, own, rows, len(weights))
        fused, strengths = self.fuse(heard)
        shares[rows] = normalised(strengths)
        return Combined(normalised(fused), heard.conflict(), shares)


def rebased(probs: Floats, priors: Floats, prior: Floats) -> Floats:
    """Posteriors (M, K) held under ``priors`` (M, K), as they would be under ``prior`` (K,): p·π/π_m, normalised.

    That is Bayes' rule where only the class prior differs (Saerens, Latinne and Decaestecker 2002). A label of which a
    modality knows nothing, with the same small mass in posterior and prior, gets neither support nor blame.
    """
    odds = np.log(np.maximum(probs, TINY)) - np.log(np.maximum(priors, TINY)) + np.log(np.maximum(prior, TINY))
    odds = np.exp(odds - odds.max(axis=-1, keepdims=True, initial=-np.inf))
    return np.asarray(odds / odds.sum(axis=-1, keepdims=True))


def leaked(probs: Floats, prior: Floats, leak: float) -> Floats:
    """Posteriors (M, K) under ``prior`` (K,), each believed up to ``leak`` (0..1): (1 - leak) p + leak π.

    That is the posterior where, with probability ``leak``, what the modality was shown had nothing to do with the label
    (an outlier, Box and Tiao 1968): the likelihood ratio of a label never falls below ``leak``. A product of
    posteriors is otherwise at the mercy of the one that is most sure (the veto of logarithmic pools, Genest and Zidek
    1986), and no encoder's 0.001 was ever checked on thousands of strangers.
    """
    return np.asarray((1 - leak) * probs + leak * prior)


def subset_of(there: npt.NDArray[np.bool_]) -> int:
    """Which of the 2^M - 1 subsets of modalities these (M,) are: the bits of its number + 1; -1 where none is there."""
    return int(there @ (1 << np.arange(len(there)))) - 1


def softmax(logits: Floats) -> Floats:
    """(K,) logits to (K,) probabilities."""
    e = np.exp(logits - logits.max())
    return np.asarray(e / e.sum())


def normalised(x: Floats) -> Floats:
    """``x`` over its sum; zeros where that is 0."""
    total = x.sum()
    return x / total if total > 0 else np.zeros_like(x)


def refuse_above_one(rule: str, weights: Floats) -> None:
    """For the rules in which a weight above 1 has no meaning; raises `ValueError`."""
    if (weights > 1).any():
        raise ValueError(f"fusion: {rule} takes weights from 0 to 1; found {weights.tolist()}")


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
