"""Fit linear heads (`engines.head.Head`) with scikit-learn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from agent.types import F64
from engines.evaluation.metrics import Ints
from engines.head import Head

ClassWeight = Literal["balanced", "root"] | None
"""``balanced`` weighs a class by 1 / its frequency, ``root`` by the root of that, None leaves it as it is."""


def fit(
    x: npt.NDArray[Any],
    y: Ints,
    *,
    labels: Sequence[str],
    groups: npt.NDArray[Any] | None = None,
    held_out: tuple[npt.NDArray[Any], Ints] | None = None,
    class_weight: ClassWeight = None,
    c: float | Sequence[float] = 1.0,
    folds: int = 5,
    natural: bool = False,
) -> Head:
    """Softmax regression on x (N, D) and y (N,), indices into `labels`; every label needs an example.

    The temperature, and of several `c` (inverse strength of the L2 penalty) the best, are those of the least
    negative log-likelihood on data that was not fitted: `held_out`, or else `folds` folds of the training data, which
    never share a value of `groups` (N,); the heads of the folds are then dropped and one is fitted to everything.
    The prior of the head is that of the classes as weighted. With `natural`, temperature and likelihood are those of
    the data as it comes, not as weighted: confidence then is how often it is right there. Deterministic.
    """
    per_class = _class_weights(_count(y, labels), class_weight)  # (K,)
    grid = [float(c)] if isinstance(c, int | float) else [float(value) for value in c]

    best: tuple[float, float, float] | None = None  # NLL, c, temperature
    for strength in grid:
        logits, truth = _unseen_logits(
            x, y, groups=groups, held_out=held_out, per_class=per_class, labels=labels, c=strength, folds=folds
        )
        weights = np.ones(len(truth)) if natural else per_class[truth]
        temperature = fit_temperature(logits, truth, weights=weights)
        nll = _nll(logits / temperature, truth, weights)
        if best is None or nll < best[0]:
            best = nll, strength, temperature
    assert best is not None
    return _fit_once(x, y, per_class=per_class, labels=labels, c=best[1], temperature=best[2])


def fit_temperature(logits: F64, y: Ints, *, weights: F64 | None = None) -> float:
    """The temperature in 0.05..20 that minimises the (weighted) negative log-likelihood of (N, K) logits.

    Golden section on log T: the likelihood of a softmax has one minimum in 1/T.
    """
    weights = np.ones(len(y)) if weights is None else weights
    low, high = np.log(0.05), np.log(20.0)
    ratio = (np.sqrt(5) - 1) / 2
    for _ in range(40):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        if _nll(logits / np.exp(left), y, weights) < _nll(logits / np.exp(right), y, weights):
            high = right
        else:
            low = left
    return float(np.exp((low + high) / 2))


def _count(y: Ints, labels: Sequence[str]) -> Ints:
    counts = np.bincount(y, minlength=len(labels))
    if len(counts) != len(labels) or not counts.all():
        found = dict(zip(labels, counts.tolist(), strict=False))
        raise ValueError(f"training: every one of the {len(labels)} labels needs examples; found {found}")
    return counts


def _class_weights(counts: Ints, mode: ClassWeight) -> F64:
    balanced = counts.sum() / (len(counts) * counts)
    return np.asarray(balanced ** {"balanced": 1.0, "root": 0.5, None: 0.0}[mode], dtype=np.float64)


def _fit_once(
    x: npt.NDArray[Any], y: Ints, *, per_class: F64, labels: Sequence[str], c: float, temperature: float = 1.0
) -> Head:
    mass = per_class * _count(y, labels)
    mean, scale = x.mean(axis=0, dtype=np.float64), x.std(axis=0, dtype=np.float64)
    scale = np.where(scale > 1e-9, scale, 1.0)  # a constant feature says nothing: it becomes 0, not infinite
    model = LogisticRegression(C=c, max_iter=2000, class_weight=dict(enumerate(per_class.tolist())))
    model.fit((x - mean) / scale, y)
    weight, bias = model.coef_.T, model.intercept_
    if len(labels) == 2:  # scikit-learn keeps only the second of two columns
        weight, bias = np.hstack([np.zeros_like(weight), weight]), np.array([0.0, *bias])
    return Head(
        mean=mean,
        scale=scale,
        weight=np.asarray(weight, dtype=np.float64),
        bias=np.asarray(bias, dtype=np.float64),
        temperature=temperature,
        prior=mass / mass.sum(),
        labels=tuple(labels),
    )


def _unseen_logits(
    x: npt.NDArray[Any],
    y: Ints,
    *,
    groups: npt.NDArray[Any] | None,
    held_out: tuple[npt.NDArray[Any], Ints] | None,
    per_class: F64,
    labels: Sequence[str],
    c: float,
    folds: int,
) -> tuple[F64, Ints]:
    """Logits (M, K) of examples that their head had not seen, and what they are (M,)."""
    if held_out is not None:
        head = _fit_once(x, y, per_class=per_class, labels=labels, c=c)
        return np.log(head.posterior(held_out[0])), held_out[1]
    logits = np.zeros((len(y), len(labels)))
    for train, test in _folds(x, y, groups, folds):
        head = _fit_once(x[train], y[train], per_class=per_class, labels=labels, c=c)
        logits[test] = np.log(np.maximum(head.posterior(x[test]), 1e-12))
    return logits, y


def _folds(x: npt.NDArray[Any], y: Ints, groups: npt.NDArray[Any] | None, folds: int) -> Iterator[tuple[Ints, Ints]]:
    if groups is None:
        yield from StratifiedKFold(folds, shuffle=True, random_state=0).split(x, y)
        return
    folds = min(folds, len(np.unique(groups)))
    yield from StratifiedGroupKFold(folds, shuffle=True, random_state=0).split(x, y, groups)


def _nll(logits: F64, y: Ints, weights: F64) -> float:
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_probs = shifted[np.arange(len(y)), y] - np.log(np.exp(shifted).sum(axis=1))
    return float(-(weights * log_probs).sum() / weights.sum())
