"""How much fusion adds: a face, an utterance and a text of one label, drawn at random, fused by every rule.

Drawing each part apart from the others makes them independent given the label, which is what the rules assume; what
real scenes share beyond the label is not measured. Each label that all three have is drawn equally often. Weights are
reliability * quality as the agent computes them, for evidence of no age; posteriors are carried over to the agent's
prior, and believed up to the leak, before the rules see them, as `agent.deciding.head.FusionHead` does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, Protocol

import numpy as np

from agent.fusion import TINY, Combined, Embeddings, Floats, Recalibration, Rule, leaked, rebased
from agent.types import F32, F64, Modality
from engines.evaluation.dataset import DataError
from engines.evaluation.metrics import Bools, Ints, Report, ece, report
from engines.evaluation.pool import Pool

MODALITIES = tuple(Modality)
RATES = tuple(k / 10 for k in range(10))
"""Missing rates."""
SHUFFLES = 10
"""How often qualities are dealt out anew."""
RESAMPLINGS = 20
SPOILT = 0.05
"""Quality of a spoilt item in the positive control, where that of the others is 1."""


class Combines(Protocol):
    """A rule, or what does as one."""

    def combine(
        self, probs: Floats, weights: Floats, priors: Floats, prior: Floats, embeddings: Embeddings = ()
    ) -> Combined:
        """As `agent.fusion.Rule.combine`."""


@dataclass(frozen=True, slots=True, eq=False)
class Recalibrated:
    """A rule and the recalibration after it, as `agent.deciding.head.FusionHead` has them."""

    rule: Rule
    recalibration: Recalibration

    def combine(
        self, probs: Floats, weights: Floats, priors: Floats, prior: Floats, embeddings: Embeddings = ()
    ) -> Combined:
        """As `agent.fusion.Rule.combine`."""
        combined = self.rule.combine(probs, weights, priors, prior, embeddings)
        return replace(combined, probs=self.recalibration.apply(combined.probs, prior, weights > 0))


@dataclass(frozen=True, slots=True, eq=False)
class Triples:
    """N triples of M modalities over K labels."""

    y: Ints
    """(N,)."""
    probs: F64
    """(N, M, K), under the agent's prior, each believed up to the leak."""
    quality: F64
    """(N, M), 0..1."""
    there: Bools
    """(N, M): whether the modality said anything."""
    reliability: F64
    """(M,), 0..1."""
    prior: F64
    """(K,), the agent's."""
    embeddings: tuple[F32 | None, ...] = (None,) * len(MODALITIES)
    """M of them, (N, D_m), NaN where there was none; None where there was none of any."""

    @property
    def weights(self) -> F64:
        """(N, M), 0 where nothing was said."""
        return np.asarray(np.clip(self.reliability * self.quality, 0, 1) * self.there)

    def of_items(self, which: Ints) -> Triples:
        """Of those triples alone."""
        names = ("y", "probs", "quality", "there")
        embeddings = tuple(None if rows is None else rows[which] for rows in self.embeddings)
        return replace(self, **{name: getattr(self, name)[which] for name in names}, embeddings=embeddings)

    def embedded(self, item: int) -> Embeddings:
        """Of one triple."""
        found = [None if rows is None else rows[item] for rows in self.embeddings]
        return [None if row is None or np.isnan(row).any() else row for row in found]

    def only(self, subset: Sequence[int]) -> Triples:
        """With those modalities alone."""
        return replace(self, there=self.there & np.isin(np.arange(len(MODALITIES)), subset))

    def thinned(self, rate: float, rng: np.random.Generator) -> Triples:
        """With each modality of each triple missing at that rate, independently."""
        return replace(self, there=self.there & (rng.random(self.there.shape) >= rate))

    def shuffled(self, rng: np.random.Generator) -> Triples:
        """With each modality's qualities dealt out anew among the triples in which it said something."""
        quality = self.quality.copy()
        for m in range(len(MODALITIES)):
            said = np.flatnonzero(self.there[:, m])
            quality[said, m] = quality[rng.permutation(said), m]
        return replace(self, quality=quality)

    def control(self, rng: np.random.Generator) -> Triples:
        """With half of the posteriors put in place of those of other triples, and qualities that say which.

        Where shuffling such qualities cost nothing, the test itself would be blind.
        """
        probs, spoilt = self.probs.copy(), rng.random(self.there.shape) < 0.5
        embeddings = list(self.embeddings)
        for m, rows in enumerate(embeddings):
            said = np.flatnonzero(self.there[:, m] & spoilt[:, m])
            dealt = rng.permutation(said)
            probs[said, m] = probs[dealt, m]
            if rows is not None:
                others = rows.copy()
                others[said] = rows[dealt]
                embeddings[m] = others
        return replace(self, probs=probs, embeddings=tuple(embeddings), quality=np.where(spoilt, SPOILT, 1.0))


def draw(
    pools: Mapping[Modality, Sequence[Pool]],
    *,
    per_label: int,
    reliability: Mapping[Modality, float],
    prior: F64,
    seed: int,
    leak: float = 0.0,
    partly: bool = False,
) -> Triples:
    """`per_label` triples of each label that all modalities have, with replacement.

    With `partly`, of each that two have, without the third.

    Of several pools of a modality, which hold the same items differently spoilt, each part is drawn from any, so that
    the same seed draws the same items. Raises `DataError` where no label is shared.
    """
    firsts = [pools[m][0] for m in MODALITIES]
    has = np.array([[bool((pool.y == k).any()) for k in range(len(prior))] for pool in firsts])  # (M, K)
    shared = np.flatnonzero(has.sum(axis=0) >= (2 if partly else len(firsts))).tolist()
    if not shared:
        raise DataError("eval fusion: there is no label that faces, voices and texts all have")
    rng, spoiling = np.random.default_rng(seed), np.random.default_rng(seed + 1)
    y = np.repeat(np.array(shared, np.intp), per_label)
    embeddings: list[F32 | None] = []
    found: dict[str, list[np.ndarray]] = {"probs": [], "quality": [], "there": []}
    for m, own in zip(MODALITIES, has, strict=True):
        rows = np.concatenate(
            [rng.choice(np.flatnonzero(pools[m][0].y == k) if own[k] else [0], per_label) for k in shared]
        )
        grade = spoiling.integers(len(pools[m]), size=len(y))
        probs = np.stack([p.probs for p in pools[m]])[grade, rows]
        priors = np.stack([p.priors for p in pools[m]])[grade, rows]
        found["probs"].append(leaked(rebased(probs, priors, prior), prior, leak))
        embeddings.append(_drawn([p.embeddings for p in pools[m]], grade, rows))
        found["quality"].append(np.stack([p.quality for p in pools[m]])[grade, rows])
        found["there"].append(np.stack([p.answered for p in pools[m]])[grade, rows] & own[y])
    return Triples(
        y=y,
        **{name: np.stack(arrays, axis=1) for name, arrays in found.items()},
        reliability=np.array([reliability[m] for m in MODALITIES]),
        prior=prior,
        embeddings=tuple(embeddings),
    )


def _drawn(embeddings: Sequence[F32 | None], grade: Ints, rows: Ints) -> F32 | None:
    """(N, D) of those items in those grades; None where they were not kept of each grade."""
    kept = [each for each in embeddings if each is not None]
    return np.stack(kept)[grade, rows] if len(kept) == len(embeddings) else None


def judge(rule: Combines, triples: Triples) -> Report:
    """How good the rule is on them; one of which nothing is left counts as not answered."""
    probs, answered = fuse(rule, triples)
    return report(triples.y, probs, answered)


def fuse(rule: Combines, triples: Triples) -> tuple[F64, Bools]:
    """The fused posteriors (N, K), and whether there was anything to fuse (N,)."""
    weights = triples.weights
    priors = np.tile(triples.prior, (len(MODALITIES), 1))
    probs = [
        rule.combine(triples.probs[i], weights[i], priors, triples.prior, triples.embedded(i)).probs
        for i in range(len(weights))
    ]
    return np.array(probs), np.any(weights, axis=1)


def figures(rules: Mapping[str, Combines], clean: Triples, spoilt: Sequence[Triples], mixed: Triples) -> dict[str, Any]:
    """All that is measured, as it stands in the JSON.

    `spoilt` are the triples by grade, from 1; in `mixed` each part is of any grade. For each rule: ``rules`` (all
    modalities), ``subsets``, ``missing`` (by rate), ``noise`` (by grade), ``shuffled``.
    """
    subsets = [subset for size in (1, 2, 3) for subset in combinations(range(len(MODALITIES)), size)]
    found: dict[str, Any] = {"rules": {}, "subsets": {}, "missing": {}, "noise": {}, "shuffled": {}}
    for name, rule in rules.items():
        found["rules"][name] = _facts(judge(rule, clean))
        found["subsets"][name] = {_named(subset): _of_subset(rule, clean.only(subset)) for subset in subsets}
        found["missing"][name] = [
            {"rate": rate, **_facts(judge(rule, clean.thinned(rate, np.random.default_rng(0))))} for rate in RATES
        ]
        found["noise"][name] = [
            {"grade": grade, **_facts(judge(rule, triples))} for grade, triples in enumerate([clean, *spoilt])
        ]
        found["shuffled"][name] = {
            "noisy": shuffling(rule, mixed),
            "control": shuffling(rule, clean.control(np.random.default_rng(0))),
        }
    return {"n": len(clean.y), "labels": np.unique(clean.y).tolist(), **found, **_against_the_best(found["subsets"])}


def _of_subset(rule: Combines, triples: Triples) -> dict[str, float | None]:
    """Figures of the triples as they are, and of their calibration.

    ``ece_drawn`` is the ECE of the posteriors given that the label is one of those that were drawn: the agent's prior
    has others too, which triples never have. ``ece_by_chance`` is what perfect calibration would show, were the label
    of each different row drawn from what is said of it: the mean of `RESAMPLINGS` (consistency resampling, Broecker and
    Smith 2007). Few items, drawn again and again, have an ECE however good they are.
    """
    probs, answered = fuse(rule, triples)
    labels, y = np.unique(triples.y, return_inverse=True)
    own = np.maximum(probs[:, labels], TINY)
    own /= own.sum(axis=1, keepdims=True)
    own, y = own[answered], y[answered]
    rows, row = np.unique(own, axis=0, return_inverse=True)
    rng = np.random.default_rng(0)
    chances = []
    for _ in range(RESAMPLINGS if len(y) else 0):
        label = (rng.random((len(rows), 1)) > rows.cumsum(axis=1)).sum(axis=1).clip(max=len(labels) - 1)
        chances.append(ece(label[row.ravel()], own))
    return _facts(report(triples.y, probs, answered)) | {
        "ece_drawn": ece(y, own) if len(y) else None,
        "ece_by_chance": float(np.mean(chances)) if chances else None,
    }


def _against_the_best(subsets: Mapping[str, Mapping[str, Mapping[str, float]]]) -> dict[str, Any]:
    """What is asked of fusion, by rule.

    The error of all modalities over that of the best single one, and the worst of the differences in accuracy between
    a subset and its best member.
    """
    ratio, worst = {}, {}
    for rule, by_subset in subsets.items():
        alone = {name: facts["accuracy"] for name, facts in by_subset.items() if "+" not in name}
        error = 1 - max(alone.values())
        ratio[rule] = (1 - by_subset["+".join(MODALITIES)]["accuracy"]) / error if error else None
        worst[rule] = min(
            facts["accuracy"] - max(alone[member] for member in name.split("+")) for name, facts in by_subset.items()
        )
    return {"error_against_best": ratio, "worst_subset": worst}


def shuffling(rule: Combines, triples: Triples) -> dict[str, float]:
    """Mean recall with the qualities as they are, and with them shuffled: mean and deviation over `SHUFFLES`."""
    kept = judge(rule, triples).uar
    dealt = [judge(rule, triples.shuffled(np.random.default_rng(seed))).uar for seed in range(SHUFFLES)]
    mean = float(np.mean(dealt))
    return {"uar": kept, "uar_shuffled": mean, "deviation": float(np.std(dealt)), "cost": kept - mean}


def _named(subset: Sequence[int]) -> str:
    return "+".join(MODALITIES[m] for m in subset)


def _facts(measured: Report) -> dict[str, float | None]:
    names = ("answered", "accuracy", "uar", "macro_f1", "nll", "ece", "brier")
    facts = {name: getattr(measured, name) for name in names}
    return {name: None if np.isnan(value) else value for name, value in facts.items()}
