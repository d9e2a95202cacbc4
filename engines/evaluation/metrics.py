"""How good posteriors are on labelled data, with numpy alone.

Throughout, y (N,) are indices of the true labels, probs (N, K) posteriors whose rows sum to 1, and predicted (N,)
indices of the labels that were named, `NONE` where nothing was: that is wrong whatever the truth. A mean over labels is
one over those that occur in y. No items are a ValueError.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agent.types import F64

Ints = npt.NDArray[np.intp]
Bools = npt.NDArray[np.bool_]

NONE = -1
"""Stands for the label of an item about which nothing was said."""
ECE_BINS = 15
TINY = 1e-12
"""A probability below counts as this: one impossible truth must not make a mean infinite."""


@dataclass(frozen=True, slots=True)
class Report:
    """How good posteriors are."""

    n: int
    answered: float
    """Share of the items that have a posterior."""
    accuracy: float
    """Over all items; what is not answered is wrong."""
    uar: float
    """Mean recall over the labels that occur; what is not answered is wrong."""
    macro_f1: float
    """Mean F1 over the labels that occur; what is not answered is missed."""
    nll: float
    """Mean over the items that are answered, in nats; NaN where none is."""
    ece: float
    """Of the items that are answered, see `ece`; NaN where none is."""
    brier: float
    """Of the items that are answered, see `brier`; NaN where none is."""
    recall: Mapping[int, float]
    """By index of the label, of those that occur."""

    def __str__(self) -> str:
        unanswered = "" if self.answered == 1 else f" ({self.answered:.3f} answered)"
        return (
            f"n {self.n}{unanswered}, accuracy {self.accuracy:.3f}, uar {self.uar:.3f}, macro-F1 {self.macro_f1:.3f},"
            f" nll {self.nll:.3f}, ece {self.ece:.3f}"
        )


def report(y: Ints, probs: F64, answered: Bools | None = None) -> Report:
    """Measure posteriors; the rows of `probs` where `answered` (N,) is False are not looked at."""
    known = np.ones(len(y), bool) if answered is None else answered
    predicted = np.where(known, probs.argmax(axis=1), NONE)
    said = (y[known], probs[known])
    return Report(
        n=len(y),
        answered=float(np.mean(known)) if len(y) else 0.0,
        accuracy=accuracy(y, predicted),
        uar=uar(y, predicted),
        macro_f1=macro_f1(y, predicted),
        nll=nll(*said) if known.any() else float("nan"),
        ece=ece(*said) if known.any() else float("nan"),
        brier=brier(*said) if known.any() else float("nan"),
        recall=recalls(y, predicted),
    )


def accuracy(y: Ints, predicted: Ints) -> float:
    """Share of the items that were named rightly."""
    _some(y)
    return float(np.mean(predicted == y))


def recalls(y: Ints, predicted: Ints) -> dict[int, float]:
    """Of each label that occurs, by its index: the share of its items that were named so."""
    _some(y)
    return {k: float(np.mean(predicted[y == k] == k)) for k in np.unique(y).tolist()}


def uar(y: Ints, predicted: Ints) -> float:
    """Unweighted average recall (Schuller et al. 2009), also called balanced accuracy."""
    return float(np.mean(list(recalls(y, predicted).values())))


def macro_f1(y: Ints, predicted: Ints) -> float:
    """Mean over the labels that occur of 2 hits / (times named + times true)."""
    _some(y)
    f1 = [2 * np.sum((predicted == k) & (y == k)) / (np.sum(predicted == k) + np.sum(y == k)) for k in np.unique(y)]
    return float(np.mean(f1))


def nll(y: Ints, probs: F64) -> float:
    """Mean negative log-likelihood of the truth, in nats."""
    _some(y)
    return float(-np.mean(np.log(np.maximum(probs[np.arange(len(y)), y], TINY))))


def ece(y: Ints, probs: F64, *, bins: int = ECE_BINS) -> float:
    """Expected calibration error of the most probable label (Guo et al. 2017).

    Mean |accuracy - confidence| over bins of equal width, weighted by their size.
    """
    _some(y)
    confidence, correct = probs.max(axis=1), probs.argmax(axis=1) == y
    which = _bins(confidence, bins)
    gaps = np.bincount(which, weights=correct - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(y))


def reliability(y: Ints, probs: F64, *, bins: int = ECE_BINS) -> tuple[F64, F64, Ints]:
    """What a reliability diagram draws: each bin's mean confidence, its accuracy (both NaN if empty), its size."""
    _some(y)
    confidence, correct = probs.max(axis=1), probs.argmax(axis=1) == y
    which = _bins(confidence, bins)
    size = np.bincount(which, minlength=bins)
    with np.errstate(invalid="ignore"):
        mean = np.bincount(which, weights=confidence, minlength=bins) / size
        right = np.bincount(which, weights=correct, minlength=bins) / size
    return mean, right, size


def brier(y: Ints, probs: F64) -> float:
    """Mean squared distance of the posterior from certainty in the truth, 0..2 (Brier 1950)."""
    _some(y)
    wanted = np.zeros_like(probs)
    wanted[np.arange(len(y)), y] = 1
    return float(np.mean(np.square(probs - wanted).sum(axis=1)))


def auc(positive: Bools, scores: npt.NDArray[np.floating]) -> float:
    """The probability that a positive item (N,) scores above a negative one, a tie counting half (Mann-Whitney).

    NaN where there are only items of one kind.
    """
    n, m = int(positive.sum()), int((~positive).sum())
    if not n or not m:
        return float("nan")
    _, which, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[which]  # (N,), from 1; those that tie share the mean of theirs
    return float((ranks[positive].sum() - n * (n + 1) / 2) / (n * m))


def confusion(y: Ints, predicted: Ints, labels: int) -> Ints:
    """(K, K + 1): how many items of each true label (row) were named so; the last column counts `NONE`."""
    table = np.zeros((labels, labels + 1), dtype=np.intp)
    np.add.at(table, (y, np.where(predicted == NONE, labels, predicted)), 1)
    return table


def risk_coverage(correct: Bools, confidence: npt.NDArray[np.floating]) -> tuple[F64, F64]:
    """What abstaining buys: coverage and risk (M,), of naming only the labels above each of the M thresholds.

    Coverage is the share of items named, rising to 1; risk is the share of these that is wrong. The thresholds are the
    confidences that occur: items that tie are named together (El-Yaniv & Wiener 2010).
    """
    _some(correct)
    order = np.argsort(-confidence, kind="stable")
    ranked = confidence[order]
    last = np.append(ranked[1:] != ranked[:-1], True)
    named = np.arange(1, len(order) + 1)
    wrong = np.cumsum(~correct[order])
    return (named / len(order))[last], (wrong / named)[last]


def area_under_risk(correct: Bools, confidence: npt.NDArray[np.floating]) -> float:
    """Mean risk over all coverages, 0..1, less is better: each step of `risk_coverage` weighs by its width."""
    coverage, risk = risk_coverage(correct, confidence)
    return float(risk @ np.diff(coverage, prepend=0.0))


def _bins(confidence: F64, bins: int) -> Ints:
    """(N,): which of `bins` equal parts of 0..1 each value falls into; 1 falls into the last."""
    return np.minimum((confidence * bins).astype(np.intp), bins - 1)


def _some(y: npt.NDArray[np.generic]) -> None:
    if not len(y):
        raise ValueError("metrics: no items to measure")
