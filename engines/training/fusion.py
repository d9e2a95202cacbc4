"""Train fusion: ``python -m engines.training fusion --data vision=DIR --data audio=DIR --data text=DIR``.

The folders are those that the encoders are trained on: faces and speech with a ``labels.csv``, and GoEmotions. What
they say of items that they were not trained on (`engines.training.fusion_parts`) is drawn into triples of one label
(`engines.evaluation.triples`), of which half of the parts are as they are and half spoilt. Fitted are the head of
``[fusion] rule = "learned"``, which is written, and the leak and the temperatures after the other rules, on triples as
they are, which are printed: they stand in `agent.config.fusion`. Everything is also fitted to one half of the items and
measured on the other, and leak and penalty are chosen so.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from agent.config import Config, load, prior_of
from agent.fusion import EMBEDDED, RULES, EmbeddedHead, Hybrid, Learned, LearnedHead, Recalibration
from agent.types import F64, Modality
from engines.evaluation.dataset import DataError
from engines.evaluation.pool import Pool
from engines.evaluation.spoil import GRADES
from engines.evaluation.triples import Recalibrated, Triples, draw, judge
from engines.models import ROOT, ModelError, default_cache, sha256_of
from engines.training import face_data
from engines.training.fusion_embedded import Seen, embedded_likelihood, fit_embedded, projected
from engines.training.fusion_fit import Cases, fit_head, leak_cost, likelihood, temperatures

PENALTIES = (3e-3, 1e-2, 3e-2, 1e-1)
"""Of which the one is taken that the other half of the items likes best."""
LEAKS = (0.0, 0.003, 0.01, 0.02, 0.03, 0.05, 0.08, 0.12, 0.2)
DEALS = 5
"""How often the items are dealt into halves to choose the leak."""
EMBEDDED_PENALTIES = (3e-2, 1e-1, 3e-1)
"""The same for the heads that read embeddings."""
SEED = 0
Pools = Mapping[Modality, Sequence[Pool]]
"""The same items of a modality in several grades, of which the first is as they are."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What triples are made of."""

    per_label: int
    reliability: Mapping[Modality, float]
    prior: F64
    """(K,)."""
    leak: float = 0.0

    def triples(self, pools: Pools, *, seed: int) -> Triples:
        """As they are."""
        return self._drawn({m: grades[:1] for m, grades in pools.items()}, seed)

    def spoilt(self, pools: Pools, *, seed: int) -> Triples:
        """Half of the parts as they are, half of any of the other grades; of every label that two modalities have."""
        return self._drawn({m: [*[grades[0]] * (len(grades) - 1), *grades[1:]] for m, grades in pools.items()}, seed)

    def _drawn(self, pools: Pools, seed: int) -> Triples:
        return draw(
            pools,
            per_label=self.per_label,
            reliability=self.reliability,
            prior=self.prior,
            seed=seed,
            leak=self.leak,
            partly=True,
        )


def main(argv: Sequence[str]) -> int:
    """Train, measure, print, write; 0, or 2 where what was given is wrong."""
    parser = argparse.ArgumentParser(prog="python -m engines.training fusion", description=__doc__)
    parser.add_argument("--data", action="append", default=[], metavar="MODALITY=DIR", help="one of each modality")
    parser.add_argument("--config", type=Path, default=ROOT / "config.toml", help="labels, prior and reliabilities")
    parser.add_argument("--cache", type=Path, default=default_cache().parent / "training", help="what is done is kept")
    parser.add_argument("--out", type=Path, default=ROOT / "engines" / "weights", help="where fusion.npz goes")
    parser.add_argument("--report", type=Path, metavar="FILE", help="the figures as JSON")
    parser.add_argument(
        "--items", type=int, default=80, help="utterances of each label; of comments four times as many"
    )
    parser.add_argument("--triples", type=int, default=200, help="drawn of each label")
    asked = parser.parse_args(argv)
    try:
        config = load(asked.config, [])
        pools = _pools(config, _folders(asked.data), asked)
    except (DataError, face_data.DataError, ModelError, OSError, ValueError) as error:
        print(f"training: {error}", file=sys.stderr)
        return 2
    plan = Plan(
        asked.triples,
        {m: table.reliability for m, table in config.encoders.items()},
        np.array(list(prior_of(config.agent).values())),
    )
    head, figures = train(pools, plan, config)
    embedded, more = train_embedded(pools, replace(plan, leak=figures["leak"]), config.agent.labels)
    text = json.dumps(figures | more, indent=1)
    print(text)
    asked.out.mkdir(parents=True, exist_ok=True)
    written: dict[str, LearnedHead | EmbeddedHead] = {"fusion": head}
    written |= {f"fusion-{name}": one for name, one in embedded.items()}
    for name, trained in written.items():
        file = asked.out / f"{name}.npz"
        np.savez(file, allow_pickle=False, **trained.arrays())
        print(f"wrote {file}, sha256 {sha256_of(file)}")
    if asked.report:
        asked.report.write_text(text + "\n", encoding="utf-8")
    return 0


def train(pools: Pools, plan: Plan, config: Config) -> tuple[LearnedHead, dict[str, Any]]:
    """The head, and the figures: leak, penalty, temperatures by rule, and how both do on the half not fitted to."""
    labels = config.agent.labels
    leak, costs = _leak(pools, plan)
    plan = replace(plan, leak=leak)
    penalty, seen = _penalty(pools, plan, labels)
    triples = plan.triples(pools, seed=SEED)
    fitted = {name: temperatures(rule.of(config.fusion), triples) for name, rule in RULES.items()}
    head = fit_head(Cases.of(plan.spoilt(pools, seed=SEED)), labels, penalty=penalty)
    figures: dict[str, Any] = {
        "nll by leak, other half": costs,
        "leak": leak,
        "nll by penalty, other half": seen,
        "penalty": penalty,
        "temperature": {name: [round(t, 3) for t in found] for name, found in fitted.items()},
        "other half": _crossed(pools, plan, config, penalty),
    }
    return head, figures


def train_embedded(pools: Pools, plan: Plan, labels: Sequence[str]) -> tuple[dict[str, EmbeddedHead], dict[str, Any]]:
    """The heads of `agent.fusion.EMBEDDED` by name, and the figures: penalty, and likelihood on the other half."""
    start = projected(pools, labels)
    cases = [Seen.of(plan.spoilt(half, seed=SEED), start) for half in halves(pools)]
    whole = Seen.of(plan.spoilt(pools, seed=SEED), start)
    heads, figures = {}, {}
    for name in EMBEDDED:
        decisions = name == Hybrid.name
        seen = {}
        for penalty in EMBEDDED_PENALTIES:
            fitted = [fit_embedded(own, start, penalty=penalty, decisions=decisions) for own in cases]
            costs = [embedded_likelihood(fitted[i], cases[1 - i], decisions=decisions) for i in range(2)]
            seen[penalty] = float(np.mean(costs))
        best = min(seen, key=lambda penalty: seen[penalty])
        heads[name] = fit_embedded(whole, start, penalty=best, decisions=decisions)
        figures[name] = {"penalty": best, "nll by penalty, other half": {f"{p:g}": nll for p, nll in seen.items()}}
    return heads, figures


def halves(pools: Pools, *, seed: int = SEED) -> tuple[Pools, Pools]:
    """The items of each modality dealt into two halves, of each label alike."""
    found: tuple[dict[Modality, list[Pool]], dict[Modality, list[Pool]]] = ({}, {})
    rng = np.random.default_rng(seed)
    for m, grades in pools.items():
        order = rng.permutation(len(grades[0].y))
        order = order[np.argsort(grades[0].y[order], kind="stable")]
        for part, into in enumerate(found):
            into[m] = [grade.of_items(np.sort(order[part::2])) for grade in grades]
    return found


def _leak(pools: Pools, plan: Plan) -> tuple[float, dict[str, float]]:
    """The largest leak that, on the half not fitted to, is within a standard error of the best; and all their costs."""
    costs: dict[float, list[float]] = {leak: [] for leak in LEAKS}
    for deal in range(DEALS):
        parts = [plan.triples(half, seed=SEED + deal) for half in halves(pools, seed=SEED + deal)]
        for leak, found in costs.items():
            found += [leak_cost(own, other, leak) for own, other in (parts, parts[::-1])]
    means = {leak: float(np.mean(found)) for leak, found in costs.items()}
    best = min(means, key=lambda leak: means[leak])
    bound = means[best] + float(np.std(costs[best], ddof=1)) / len(costs[best]) ** 0.5
    chosen = max(leak for leak, mean in means.items() if mean <= bound)
    return chosen, {"within": bound, **{f"{leak:g}": mean for leak, mean in means.items()}}


def _penalty(pools: Pools, plan: Plan, labels: Sequence[str]) -> tuple[float, dict[str, float]]:
    """The penalty under which heads do best on the half that they were not fitted to, and how well by penalty."""
    cases = [Cases.of(plan.spoilt(half, seed=SEED)) for half in halves(pools)]
    seen = {}
    for penalty in PENALTIES:
        heads = [fit_head(own, labels, penalty=penalty) for own in cases]
        seen[penalty] = float(np.mean([likelihood(heads[0], cases[1]), likelihood(heads[1], cases[0])]))
    bayes = LearnedHead.bayes(tuple(map(str, Modality)), labels)
    untrained = float(np.mean([likelihood(bayes, own) for own in cases]))
    best = min(seen, key=lambda penalty: seen[penalty])
    return best, {"bayes": untrained, **{f"{penalty:g}": value for penalty, value in seen.items()}}


def _crossed(pools: Pools, plan: Plan, config: Config, penalty: float) -> dict[str, dict[str, float]]:
    """Figures of triples as they are, of each half by what the other half fitted; means over both."""
    parts = halves(pools)
    found: dict[str, list[tuple[float, ...]]] = {}
    for fitted, other in (parts, parts[::-1]):
        triples, rest = plan.triples(fitted, seed=SEED), _whole(plan.triples(other, seed=SEED))
        rules = {name: rule.of(config.fusion) for name, rule in RULES.items()}
        ways = {f"{name}, as it is": Recalibrated(rule, Recalibration()) for name, rule in rules.items()}
        ways |= {name: Recalibrated(rule, Recalibration(temperatures(rule, triples))) for name, rule in rules.items()}
        head = fit_head(Cases.of(plan.spoilt(fitted, seed=SEED)), config.agent.labels, penalty=penalty)
        ways["learned"] = Recalibrated(Learned(head), Recalibration())
        for name, way in ways.items():
            measured = judge(way, rest)
            found.setdefault(name, []).append((measured.accuracy, measured.uar, measured.nll, measured.ece))
    means = {name: np.mean(rows, axis=0).round(4).tolist() for name, rows in found.items()}
    return {name: dict(zip(("accuracy", "uar", "nll", "ece"), row, strict=True)) for name, row in means.items()}


def _whole(triples: Triples) -> Triples:
    """Those of labels that all modalities have."""
    complete = [k for k in np.unique(triples.y) if triples.there[triples.y == k].any(axis=0).all()]
    return triples.of_items(np.flatnonzero(np.isin(triples.y, complete)))


def _folders(given: Sequence[str]) -> dict[Modality, Path]:
    pairs = [value.partition("=") for value in given]
    folders = {Modality(name): Path(folder) for name, _, folder in pairs if name in tuple(Modality)}
    if len(pairs) != len(folders) or len(folders) != len(Modality):
        forms = " ".join(f"--data {m}=DIR" for m in Modality)
        raise DataError(f"fusion: wants {forms}; found {' '.join(given) or 'none'}")
    return folders


def _pools(config: Config, folders: Mapping[Modality, Path], asked: argparse.Namespace) -> Pools:
    from engines.training import fusion_parts  # wants scikit-learn, and for faces torch

    def say(words: str) -> None:
        print(words, file=sys.stderr, flush=True)

    grades, labels = range(GRADES + 1), config.agent.labels
    asked.cache.mkdir(parents=True, exist_ok=True)
    shared = {"grades": grades, "cache": asked.cache, "say": say}
    return {
        Modality.VISION: fusion_parts.faces(folders[Modality.VISION], labels, cache=asked.cache, say=say),
        Modality.AUDIO: fusion_parts.voices(config, folders[Modality.AUDIO], items=asked.items, **shared),
        Modality.TEXT: fusion_parts.texts(config, folders[Modality.TEXT], items=4 * asked.items, **shared),
    }
