"""Fits what fusion has to learn to triples: temperatures after each rule, and the head of `agent.fusion.Learned`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from scipy.optimize import minimize

from agent.fusion import TINY, LearnedHead, conflict, fit_temperature, leaked
from agent.types import F64
from engines.evaluation.metrics import Bools, Ints
from engines.evaluation.triples import MODALITIES, Combines, Triples, fuse

SUBSETS = tuple(tuple(m for m in range(len(MODALITIES)) if bits >> m & 1) for bits in range(1, 2 ** len(MODALITIES)))
"""What may be there of a triple, in the order of `agent.fusion.subset_of`; the head is trained on all of them alike, so
that it answers whatever is missing."""
PAIRS = tuple(combinations(range(len(MODALITIES)), 2))
BOUNDS = {"mix": 10.0, "bias": 10.0, "gamma": 1.5, "log_temperature": 3.0, "quarrel": 3.0}
"""Beyond which no parameter goes: a difference from `LearnedHead.bayes`, of gamma the logarithm."""


def temperatures(rule: Combines, triples: Triples) -> tuple[float, ...]:
    """T of `agent.fusion.Recalibration` for each of `SUBSETS`.

    A label that such triples lack is left out of the posteriors: how likely it is cannot be learned from them.
    """
    found = []
    for subset in SUBSETS:
        some = _whole(triples, subset)
        probs, y, prior = _among_their_own(fuse(rule, some)[0], some)
        found.append(fit_temperature(probs, y, prior))
    return tuple(found)


def leak_cost(fitted: Triples, other: Triples, leak: float) -> float:
    """NLL of `agent.fusion.Bayes` on `other`, were posteriors believed up to `leak`; the mean over `SUBSETS`.

    With the temperatures fitted to `fitted`; both are given without a leak.
    """
    costs = []
    for subset in SUBSETS:
        own, rest = (_whole(_leaked(triples, leak), subset) for triples in (fitted, other))
        temperature = fit_temperature(*_among_their_own(pooled(own), own))
        probs, y, prior = _among_their_own(pooled(rest), rest)
        logits = np.log(prior) + (np.log(probs) - np.log(prior)) / temperature
        each = np.logaddexp.reduce(logits, axis=1) - logits[np.arange(len(y)), y]
        costs.append(float(each.mean()))
    return float(np.mean(costs))


def pooled(triples: Triples) -> F64:
    """(N, K): what `agent.fusion.Bayes` makes of them, all at once."""
    log_prior = np.log(triples.prior)
    logits = log_prior + np.einsum("nm,nmk->nk", triples.weights, np.log(triples.probs) - log_prior)
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(odds / odds.sum(axis=1, keepdims=True))


def _leaked(triples: Triples, leak: float) -> Triples:
    return replace(triples, probs=leaked(triples.probs, triples.prior, leak))


def _whole(triples: Triples, subset: Sequence[int]) -> Triples:
    """Those of which all of the subset is there, and nothing else."""
    some = triples.only(subset)
    return some.of_items(np.flatnonzero(np.count_nonzero(some.weights, axis=1) == len(subset)))


def _among_their_own(probs: F64, triples: Triples) -> tuple[F64, Ints, F64]:
    """Posteriors (N, K), labels (N,) and prior (K,), all of the labels alone that the triples have."""
    labels, y = np.unique(triples.y, return_inverse=True)
    own = np.maximum(probs[:, labels], TINY)  # a vote may be for none of them
    own /= own.sum(axis=1, keepdims=True)
    return own, y, triples.prior[labels] / triples.prior[labels].sum()


@dataclass(frozen=True, slots=True, eq=False)
class Cases:
    """N cases to fit the head to: triples with what is there of them."""

    y: Ints
    """(N,)."""
    ratios: F64
    """(N, M, K): log p - log π less its mean over the labels."""
    weights: F64
    """(N, M)."""
    conflicts: F64
    """(N, pairs), in the order of `PAIRS`."""
    open: Bools
    """(N, K): the labels that all who are there have items of. Among them the head has to choose: that a modality was
    never shown a label says nothing against it."""
    log_prior: F64
    """(K,)."""
    triple: Ints
    """(N,), of which of the triples each is."""

    def of_items(self, which: Ints) -> Cases:
        """Those cases alone."""
        names = ("y", "ratios", "weights", "conflicts", "open", "triple")
        return replace(self, **{name: getattr(self, name)[which] for name in names})

    @classmethod
    def of(cls, triples: Triples) -> Cases:
        """Each of the triples with each of `SUBSETS`, as far as that leaves anything."""
        k = len(triples.prior)
        has = np.array([np.bincount(triples.y[there], minlength=k) > 0 for there in triples.there.T])  # (M, K)
        log_prior = np.log(triples.prior)
        ratios = np.log(triples.probs) - log_prior
        parts = []
        pairs = np.array(
            [
                [conflict(p[list(pair)], w[list(pair)]) for pair in PAIRS]
                for p, w in zip(triples.probs, triples.weights, strict=True)
            ]
        )
        for subset in SUBSETS:
            there = triples.only(subset).weights > 0
            both = np.stack([there[:, list(pair)].all(axis=1) for pair in PAIRS], axis=1)
            some = there.any(axis=1)
            possible = (has[np.newaxis] | ~there[..., np.newaxis]).all(axis=1)
            parts.append((some, triples.weights * there, pairs * both, possible))
        some, weights, conflicts, possible = (np.concatenate([part[i] for part in parts]) for i in range(4))
        ratios -= ratios.mean(axis=2, keepdims=True)
        triple = np.tile(np.arange(len(triples.y)), len(SUBSETS))[some]
        return cls(triples.y[triple], ratios[triple], weights[some], conflicts[some], possible[some], log_prior, triple)

    def __len__(self) -> int:
        return len(self.y)


def fit_head(cases: Cases, labels: Sequence[str], *, penalty: float) -> LearnedHead:
    """The head of the greatest likelihood, less `penalty` per squared difference from Bayes. Deterministic."""
    slots = _Slots(len(labels))
    bounds = np.concatenate([np.full(end - start, BOUNDS[name]) for name, (start, end) in slots.spans.items()])
    found = minimize(
        lambda theta: _loss(cases, slots, theta, penalty),
        np.zeros(len(bounds)),
        jac=True,
        method="L-BFGS-B",
        bounds=list(zip(-bounds, bounds, strict=True)),
        options={"maxiter": 100},
    )
    return slots.head(np.asarray(found.x, np.float64), labels)


def likelihood(head: LearnedHead, cases: Cases) -> float:
    """Mean over the cases, negative, in nats."""
    slots = _Slots(len(head.labels))
    return _loss(cases, slots, slots.theta(head), 0.0)[0]


class _Slots:
    """Where each parameter stands in the one vector that is searched for; all 0 is Bayes."""

    def __init__(self, k: int) -> None:
        m = len(MODALITIES)
        self.shapes = {
            "mix": (m, k, k),
            "bias": (m, k),
            "gamma": (m,),
            "log_temperature": (len(SUBSETS),),
            "quarrel": (len(PAIRS),),
        }
        ends = np.cumsum([int(np.prod(shape)) for shape in self.shapes.values()]).tolist()
        self.spans = dict(zip(self.shapes, zip([0, *ends[:-1]], ends, strict=True), strict=True))
        self.eye = np.eye(k)

    def parts(self, theta: F64) -> dict[str, F64]:
        return {name: theta[slice(*self.spans[name])].reshape(shape) for name, shape in self.shapes.items()}

    def head(self, theta: F64, labels: Sequence[str]) -> LearnedHead:
        part = self.parts(theta)
        quarrel = np.zeros((len(MODALITIES),) * 2)
        for (i, j), value in zip(PAIRS, part["quarrel"], strict=True):
            quarrel[i, j] = quarrel[j, i] = value
        return replace(
            LearnedHead.bayes(tuple(map(str, MODALITIES)), labels),
            mix=self.eye + part["mix"],
            bias=part["bias"].copy(),
            gamma=np.exp(part["gamma"]),
            log_temperature=part["log_temperature"].copy(),
            quarrel=quarrel,
        )

    def theta(self, head: LearnedHead) -> F64:
        parts = {
            "mix": head.mix - self.eye,
            "bias": head.bias,
            "gamma": np.log(head.gamma),
            "log_temperature": head.log_temperature,
            "quarrel": np.array([head.quarrel[pair] for pair in PAIRS]),
        }
        return np.concatenate([parts[name].ravel() for name in self.shapes])


def _loss(cases: Cases, slots: _Slots, theta: F64, penalty: float) -> tuple[float, F64]:
    """The mean negative log-likelihood with the penalty, and its slope."""
    part = slots.parts(theta)
    there = cases.weights > 0
    logs = np.log(np.where(there, cases.weights, 1.0))  # (N, M)
    pull = np.exp(np.exp(part["gamma"]) * logs) * there  # w^γ
    said = np.einsum("mij,nmj->nmi", slots.eye + part["mix"], cases.ratios, optimize=True) + part["bias"]  # (N, M, K)
    which = there @ (1 << np.arange(len(MODALITIES))) - 1
    cool = np.exp(-part["log_temperature"][which] - cases.conflicts @ part["quarrel"])  # (N,), 1 / T
    total = (pull[..., np.newaxis] * said).sum(axis=1)  # (N, K)
    logits = np.where(cases.open, cases.log_prior + cool[:, np.newaxis] * total, -np.inf)
    logits -= logits.max(axis=1, keepdims=True)
    probs = np.exp(logits)
    mass = probs.sum(axis=1)
    each = np.arange(len(cases))
    loss = float(np.mean(np.log(mass) - logits[each, cases.y])) + penalty * float(theta @ theta)

    probs /= mass[:, np.newaxis]
    probs[each, cases.y] -= 1
    slope = probs / len(cases)  # of the logits
    warm = slope * cool[:, np.newaxis]
    own = pull[..., np.newaxis] * warm[:, np.newaxis]  # (N, M, K), of `said`
    heat = -(slope * total).sum(axis=1) * cool  # (N,), of log T
    slopes = {
        "mix": np.einsum("nmi,nmj->mij", own, cases.ratios, optimize=True),
        "bias": own.sum(axis=0),
        "gamma": ((own * said).sum(axis=2) * logs).sum(axis=0) * np.exp(part["gamma"]),
        "log_temperature": np.bincount(which, weights=heat, minlength=len(SUBSETS)),
        "quarrel": heat @ cases.conflicts,
    }
    return loss, np.concatenate([slopes[name].ravel() for name in slots.shapes]) + 2 * penalty * theta
