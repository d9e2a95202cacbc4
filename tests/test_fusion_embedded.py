"""Heads that read embeddings: what they do with what is missing, and that they learn what there is to learn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agent.fusion import EmbeddedHead, Feature, Floats, Hybrid
from agent.types import F32, Modality
from engines.evaluation.dataset import DataError
from engines.evaluation.pool import Pool
from engines.evaluation.triples import MODALITIES, fuse, judge
from engines.training import fusion_embedded
from engines.training.fusion import Plan
from engines.training.fusion_embedded import Seen, embedded_likelihood, fit_embedded, projected
from engines.training.fusion_fit import SUBSETS

LABELS = ("neutral", "happy", "sad")
K = len(LABELS)
FLAT = np.full(K, 1 / K)
PLAN = Plan(100, dict.fromkeys(Modality, 0.8), FLAT)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fusion_embedded, "COORDINATES", 4)
    monkeypatch.setattr(fusion_embedded, "HIDDEN", 6)


def pools(*, seed: int = 0) -> Mapping[Modality, Sequence[Pool]]:
    """Embeddings of 5, 6 and 7 numbers that tell the label well, beside posteriors that tell it badly."""
    found = {}
    for i, m in enumerate(MODALITIES):
        rng = np.random.default_rng(seed + i)
        y = np.repeat(np.arange(K), 80)
        embeddings = rng.normal(size=(len(y), 5 + i)).astype(np.float32)
        embeddings[np.arange(len(y)), y] += 2
        logits = rng.normal(size=(len(y), K)) + 0.5 * np.eye(K)[y]
        odds = np.exp(logits)
        sure = np.ones(len(y), bool)
        posteriors = odds / odds.sum(axis=1, keepdims=True)
        found[m] = [Pool(y, posteriors, np.tile(FLAT, (len(y), 1)), np.ones(len(y)), sure, embeddings)]
    return found


def head(*, decisions: float = 1.0) -> EmbeddedHead:
    """One that was never trained, with random weights."""
    rng = np.random.default_rng(1)
    start = projected(pools(), LABELS)
    drawn = {name: rng.normal(size=getattr(start, name).shape).astype(np.float32) for name in ("hidden", "out")}
    return replace(start, **drawn, decisions=np.full((3, K), decisions, np.float32))


PROBS = np.array([[0.7, 0.2, 0.1], [0.2, 0.5, 0.3], [0.1, 0.1, 0.8]])
WEIGHTS = np.array([0.8, 0.5, 0.3])
EMBEDDINGS: list[F32 | None] = [np.linspace(-1, 1, 5 + i).astype(np.float32) for i in range(3)]


def answer(rule: Hybrid, weights: Floats = WEIGHTS, embeddings: Sequence[F32 | None] = EMBEDDINGS) -> Floats:
    combined = rule.combine(PROBS, weights, np.tile(FLAT, (3, 1)), FLAT, embeddings)
    assert round(float(combined.shares.sum()), 6) in (0, 1)
    return combined.probs


def test_a_weight_of_zero_leaves_no_trace() -> None:
    rule, weights = Hybrid(head()), np.array([0.8, 0.0, 0.3])
    other: list[F32 | None] = [EMBEDDINGS[0], np.full(6, 9, np.float32), EMBEDDINGS[2]]
    assert answer(rule, weights) == pytest.approx(answer(rule, weights, other))
    assert answer(rule, np.zeros(3)) == pytest.approx(FLAT)
    assert not np.allclose(answer(rule), answer(rule, weights), atol=1e-3)


def test_without_an_embedding_the_decision_counts_or_nothing() -> None:
    missing: list[F32 | None] = [EMBEDDINGS[0], None, EMBEDDINGS[2]]
    feature, hybrid = Feature(head(decisions=0)), Hybrid(head())
    assert answer(feature, WEIGHTS, missing) == pytest.approx(answer(feature, np.array([0.8, 0, 0.3])))
    assert not np.allclose(answer(hybrid, WEIGHTS, missing), answer(hybrid, np.array([0.8, 0, 0.3])), atol=1e-3)
    assert answer(feature, WEIGHTS, ()) == pytest.approx(FLAT)
    odds = (PROBS / FLAT) ** WEIGHTS[:, np.newaxis]
    assert answer(hybrid, WEIGHTS, ()) == pytest.approx(odds.prod(axis=0) / odds.prod(axis=0).sum(), rel=1e-5)


def test_an_embedding_of_another_encoder_is_refused() -> None:
    wrong: list[F32 | None] = [np.zeros(9, np.float32), EMBEDDINGS[1], EMBEDDINGS[2]]
    with pytest.raises(ValueError, match="takes vision embeddings of 5 numbers; found 9: it was trained for another"):
        answer(Hybrid(head()), WEIGHTS, wrong)


def test_a_head_is_read_as_it_was_written_and_faults_are_named(tmp_path: Path) -> None:
    trained = head()
    np.savez(tmp_path / "head.npz", allow_pickle=False, **trained.arrays())
    with np.load(tmp_path / "head.npz", allow_pickle=False) as arrays:
        read = EmbeddedHead.of(arrays)
    assert answer(Hybrid(read)) == pytest.approx(answer(Hybrid(trained)))
    with pytest.raises(ValueError, match="out missing; found modalities, "):
        EmbeddedHead.of({name: array for name, array in trained.arrays().items() if name != "out"})
    with pytest.raises(ValueError, match=r"out has the shape \(2, 6\); 3 modalities, 3 labels and .* want \(3, 6\)"):
        replace(trained, out=trained.out[:2])
    with pytest.raises(ValueError, match="offset holds values that are not finite"):
        replace(trained, offset=np.full(6, np.nan, np.float32))


@pytest.mark.parametrize("decisions", [False, True])
def test_training_says_what_the_deployed_rule_says_and_learns_from_embeddings(decisions: bool) -> None:
    start = projected(pools(), LABELS)
    own, other = PLAN.triples(pools(), seed=1), PLAN.triples(pools(seed=50), seed=2)
    fitted = fit_embedded(Seen.of(own, start), start, penalty=1e-3, decisions=decisions)
    rule = (Hybrid if decisions else Feature)(fitted)
    said = []
    for subset in SUBSETS:
        probs, _ = fuse(rule, other.only(subset))
        said += (-np.log(probs[np.arange(len(other.y)), other.y])).tolist()
    found = embedded_likelihood(fitted, Seen.of(other, start), decisions=decisions)
    assert found == pytest.approx(float(np.mean(said)), abs=1e-5)
    assert found < 0.6 * np.log(K)
    assert judge(rule, other).accuracy > 0.9
    again = fit_embedded(Seen.of(own, start), start, penalty=1e-3, decisions=decisions)
    np.testing.assert_array_equal(again.hidden, fitted.hidden)


def test_an_encoder_without_embeddings_is_named() -> None:
    made = dict(pools())
    made[Modality.TEXT] = [replace(made[Modality.TEXT][0], embeddings=None)]
    with pytest.raises(DataError, match="the encoder of text gives no embeddings"):
        projected(made, LABELS)
