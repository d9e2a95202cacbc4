"""Fits the heads of `agent.fusion.Feature` and `Hybrid` to triples.

Each triple is shown with each subset of its parts, so that whatever is missing was missing in training (modality
dropout; Neverova et al. 2016, "ModDrop", with every subset in the place of random ones).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from agent.fusion import EmbeddedHead
from agent.types import F64, Modality
from engines.evaluation.dataset import DataError
from engines.evaluation.pool import Pool
from engines.evaluation.triples import MODALITIES, Triples
from engines.training.fusion_fit import SUBSETS, Cases

COORDINATES = 48
"""Principal components that are left of an embedding."""
HIDDEN = 16
ROUNDS = 80
SEED = 0
LOG_BOUND = 3.0
"""Of log temperatures while they are searched for."""


def projected(pools: Mapping[Modality, Sequence[Pool]], labels: Sequence[str]) -> EmbeddedHead:
    """A head that says nothing yet, with the whitened principal components of the embeddings, each label as heavy.

    Raises `DataError` where an encoder gives none.
    """
    means, projections, k, count = [], [], len(labels), len(MODALITIES)
    for m in MODALITIES:
        rows = [(pool.embeddings, pool.y) for pool in pools[m] if pool.embeddings is not None]
        if not rows:
            raise DataError(f"fusion: the encoder of {m} gives no embeddings to train feature and hybrid heads on")
        x, y = (np.concatenate([row[i] for row in rows]) for i in range(2))
        there = ~np.isnan(x).any(axis=1)
        x, y = x[there].astype(np.float64), y[there]
        heavy = 1 / np.bincount(y, minlength=k)[y]
        heavy /= heavy.sum()
        mean = heavy @ x
        values, vectors = np.linalg.eigh((x - mean).T @ ((x - mean) * heavy[:, np.newaxis]))
        top = slice(None, -COORDINATES - 1, -1)
        means.append(mean)
        projections.append(vectors[:, top] / np.sqrt(np.maximum(values[top], 1e-9)))
    return EmbeddedHead(
        tuple(map(str, MODALITIES)),
        tuple(labels),
        tuple(len(mean) for mean in means),
        mean=np.concatenate(means).astype(np.float32),
        projection=np.concatenate(projections).astype(np.float32),
        hidden=np.zeros((HIDDEN, count * COORDINATES + count), np.float32),
        offset=np.zeros(HIDDEN, np.float32),
        out=np.zeros((k, HIDDEN), np.float32),
        decisions=np.zeros((count, k), np.float32),
        log_temperature=np.zeros(2**count - 1, np.float32),
    )


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """Cases with their embeddings."""

    cases: Cases
    inputs: F64
    """(N, M d + M): w_m x_m, then w_m; 0 where a modality is not there."""
    which: np.ndarray
    """(N,), of `SUBSETS`."""

    @classmethod
    def of(cls, triples: Triples, head: EmbeddedHead) -> Seen:
        """Those whose parts all have embeddings."""
        cases = Cases.of(triples)
        placed, known = [], []
        for m, rows in enumerate(triples.embeddings):
            assert rows is not None, "`projected` has seen some"
            known.append(~np.isnan(rows).any(axis=1))
            placed.append(head.coordinates(m, np.nan_to_num(rows)))
        embedded = np.stack(known, axis=1)[cases.triple]
        cases = cases.of_items(np.flatnonzero((embedded | (cases.weights == 0)).all(axis=1)))
        coordinates = np.stack(placed, axis=1)[cases.triple]  # (N, M, d)
        weighted = coordinates * cases.weights[..., np.newaxis]
        inputs = np.concatenate([weighted.reshape(len(cases), -1), cases.weights], axis=1)
        return cls(cases, inputs, (cases.weights > 0) @ (1 << np.arange(len(MODALITIES))) - 1)


def fit_embedded(seen: Seen, start: EmbeddedHead, *, penalty: float, decisions: bool) -> EmbeddedHead:
    """The head of the greatest likelihood, less `penalty` per squared weight. Deterministic.

    With `decisions` they begin as `agent.fusion.Bayes` has them, and are drawn to it; without, they do not count.
    """
    weights = _Weights(start, decisions=decisions)
    bounds = np.full(len(weights.first), np.inf)
    bounds[slice(*weights.spans["log_temperature"])] = LOG_BOUND
    found = minimize(
        lambda theta: weights.loss(seen, theta, penalty),
        weights.first,
        jac=True,
        method="L-BFGS-B",
        bounds=list(zip(-bounds, bounds, strict=True)),
        options={"maxiter": ROUNDS},
    )
    return weights.head(np.asarray(found.x, np.float64))


def embedded_likelihood(head: EmbeddedHead, seen: Seen, *, decisions: bool) -> float:
    """Mean over the cases, negative, in nats."""
    weights = _Weights(head, decisions=decisions)
    return weights.loss(seen, weights.theta(head), 0.0)[0]


class _Weights:
    """Where each parameter stands in the one vector that is searched for, and what that costs."""

    def __init__(self, start: EmbeddedHead, *, decisions: bool) -> None:
        self._start = start
        self._decisions = decisions
        names = ("hidden", "offset", "out", "log_temperature", *(("decisions",) if decisions else ()))
        self.shapes = {name: getattr(start, name).shape for name in names}
        ends = np.cumsum([int(np.prod(shape)) for shape in self.shapes.values()]).tolist()
        self.spans = dict(zip(self.shapes, zip([0, *ends[:-1]], ends, strict=True), strict=True))
        self.first = np.zeros(ends[-1])
        rng = np.random.default_rng(SEED)
        for name in ("hidden", "out"):
            shape = self.shapes[name]
            self.first[slice(*self.spans[name])] = (rng.standard_normal(shape) / shape[1] ** 0.5).ravel()

    def parts(self, theta: F64) -> dict[str, F64]:
        return {name: theta[slice(*self.spans[name])].reshape(shape) for name, shape in self.shapes.items()}

    def theta(self, head: EmbeddedHead) -> F64:
        parts = {name: np.asarray(getattr(head, name), np.float64) for name in self.shapes}
        if self._decisions:
            parts["decisions"] = parts["decisions"] - 1
        return np.concatenate([parts[name].ravel() for name in self.shapes])

    def head(self, theta: F64) -> EmbeddedHead:
        arrays = self._start.arrays() | {name: part.astype(np.float32) for name, part in self.parts(theta).items()}
        if self._decisions:
            arrays["decisions"] = (self.parts(theta)["decisions"] + 1).astype(np.float32)
        return EmbeddedHead.of(arrays)

    def loss(self, seen: Seen, theta: F64, penalty: float) -> tuple[float, F64]:
        """The mean negative log-likelihood with the penalty, and its slope."""
        cases, part = seen.cases, self.parts(theta)
        units = np.tanh(seen.inputs @ part["hidden"].T + part["offset"])  # (N, H)
        total = units @ part["out"].T  # (N, K)
        pulls = cases.weights[..., np.newaxis] * cases.ratios  # (N, M, K)
        if self._decisions:
            total = total + np.einsum("nmk,mk->nk", pulls, 1 + part["decisions"])
        cool = np.exp(-part["log_temperature"][seen.which])  # (N,), 1 / T
        logits = np.where(cases.open, cases.log_prior + cool[:, np.newaxis] * total, -np.inf)
        logits -= logits.max(axis=1, keepdims=True)
        probs, each = np.exp(logits), np.arange(len(cases))
        mass = probs.sum(axis=1)
        bent = {name: part[name] for name in self.shapes if name not in ("offset", "log_temperature")}
        loss = float(np.mean(np.log(mass) - logits[each, cases.y]))
        loss += penalty * sum(float((array**2).sum()) for array in bent.values())

        probs /= mass[:, np.newaxis]
        probs[each, cases.y] -= 1
        slope = probs / len(cases)  # of the logits
        warm = slope * cool[:, np.newaxis]
        inner = (warm @ part["out"]) * (1 - units**2)  # (N, H)
        heat = -(slope * total).sum(axis=1) * cool
        slopes = {
            "hidden": inner.T @ seen.inputs,
            "offset": inner.sum(axis=0),
            "out": warm.T @ units,
            "log_temperature": np.bincount(seen.which, weights=heat, minlength=len(SUBSETS)),
            "decisions": np.einsum("nk,nmk->mk", warm, pulls),
        }
        slopes |= {name: slopes[name] + 2 * penalty * array for name, array in bent.items()}
        return loss, np.concatenate([slopes[name].ravel() for name in self.shapes])
