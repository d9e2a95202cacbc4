"""`python -m engines.training fusion`: what is learned from triples, on posteriors that are made up."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from agent.config import Config, load
from agent.deciding.head import read_learned
from agent.fusion import RULES, Bayes, Learned, LearnedHead, Recalibration, subset_of
from agent.types import F64, Modality
from engines.evaluation.metrics import report
from engines.evaluation.pool import Pool
from engines.evaluation.triples import MODALITIES, Recalibrated, Triples, draw, fuse, judge
from engines.training import __main__ as program
from engines.training import fusion_parts
from engines.training.fusion import LEAKS, Plan, halves, train
from engines.training.fusion_fit import SUBSETS, Cases, fit_head, leak_cost, likelihood, pooled, temperatures
from tests.outside import ROOT

LABELS = ("neutral", "happy", "sad")
NAMES = tuple(map(str, MODALITIES))
K = len(LABELS)
FLAT = np.full(K, 1 / K)
BAYES = LearnedHead.bayes(NAMES, LABELS)
SURE = dict.fromkeys(Modality, 1.0)
PLAN = Plan(150, SURE, FLAT)


def pool(*, seed: int, habit: F64, sharp: float = 1.0, labels: Sequence[int] = (0, 1, 2), each: int = 150) -> Pool:
    """Calibrated posteriors, then made `sharp`er than they should be and bent by a `habit` (K,) in nats."""
    rng = np.random.default_rng(seed)
    y = np.repeat(labels, each).astype(np.intp)
    seen = rng.normal(size=(len(y), K))
    seen[np.arange(len(y)), y] += 1.5  # Gaussians of deviation 1, so that 1.5 * seen are the logits
    odds = np.exp(sharp * 1.5 * seen + habit)
    answered = np.ones(len(y), bool)
    return Pool(y, odds / odds.sum(axis=1, keepdims=True), np.tile(FLAT, (len(y), 1)), np.ones(len(y)), answered)


def pools(*, sharp: float = 1.0, habit: float = 0.0, seed: int = 0) -> dict[Modality, list[Pool]]:
    """Two grades of each modality; vision has the habit of seeing happiness."""
    habits = {m: np.array([0, habit if m is Modality.VISION else 0, 0]) for m in Modality}
    return {
        m: [pool(seed=seed + i, habit=habits[m], sharp=sharp), pool(seed=seed + i, habit=habits[m], sharp=sharp / 2)]
        for i, m in enumerate(Modality)
    }


def triples(made: Mapping[Modality, Sequence[Pool]], *, seed: int = 1) -> Triples:
    return PLAN.triples(made, seed=seed)


def test_temperatures_take_back_what_was_overdone() -> None:
    honest, overdone = temperatures(Bayes(), triples(pools())), temperatures(Bayes(), triples(pools(sharp=3)))
    assert honest == pytest.approx([1] * 7, abs=0.2)
    assert overdone == pytest.approx([3] * 7, rel=0.2)


def test_each_subset_has_a_temperature_of_its_own() -> None:
    made = pools()
    made[Modality.TEXT] = [pool(seed=2, habit=np.zeros(K), sharp=3)]
    found = dict(zip(SUBSETS, temperatures(Bayes(), triples(made)), strict=True))
    assert found[(0,)] == pytest.approx(1, abs=0.2)
    assert found[(0, 1)] == pytest.approx(1, abs=0.2)
    assert found[(2,)] == pytest.approx(3, rel=0.2)
    assert tuple(sorted(SUBSETS, key=lambda subset: subset_of(np.isin(range(3), subset)))) == SUBSETS


def test_all_at_once_bayes_is_what_it_is_one_by_one() -> None:
    drawn = triples(pools(habit=1.0)).thinned(0.3, np.random.default_rng(0))
    np.testing.assert_allclose(pooled(drawn), fuse(Bayes(), drawn)[0], atol=1e-12)


def test_a_leak_costs_little_where_nobody_errs_and_pays_where_somebody_does() -> None:
    own, other = triples(pools()), triples(pools(seed=50), seed=2)
    honest = [leak_cost(own, other, leak) for leak in (0.0, 0.02, 0.5)]
    assert honest[1] == pytest.approx(honest[0], abs=0.01)
    assert honest[2] > honest[0] + 0.005
    own, other = astray(own), astray(other)
    assert leak_cost(own, other, 0.05) < leak_cost(own, other, 0.0)


def astray(drawn: Triples) -> Triples:
    """One in twenty of the parts is somebody else's."""
    rng = np.random.default_rng(3)
    probs = drawn.probs.copy()
    for m in range(len(MODALITIES)):
        wrong = np.flatnonzero(rng.random(len(probs)) < 0.05)
        probs[wrong, m] = probs[rng.permutation(len(probs))[: len(wrong)], m]
    return replace(drawn, probs=probs)


@pytest.mark.parametrize("name", RULES)
def test_a_fitted_temperature_does_good_on_other_triples(name: str) -> None:
    rule, other = RULES[name](), triples(pools(seed=50), seed=2)
    fitted = Recalibrated(rule, Recalibration(temperatures(rule, triples(pools()))))
    assert judge(fitted, other).nll <= judge(rule, other).nll + 0.01
    assert judge(fitted, other).accuracy == judge(rule, other).accuracy


def test_the_head_unlearns_a_habit() -> None:
    own, other = Cases.of(triples(pools(habit=2.0))), Cases.of(triples(pools(habit=2.0, seed=50), seed=2))
    head = fit_head(own, LABELS, penalty=1e-2)
    honest = likelihood(BAYES, Cases.of(triples(pools(seed=50), seed=2)))
    cost = likelihood(BAYES, other) - honest
    assert cost > 0.05
    assert likelihood(head, other) < honest + cost / 2
    assert head.bias[0].argmin() == 1
    assert np.abs(head.bias[1:]).max() < np.abs(head.bias[0]).max() / 2


def test_a_heavy_penalty_leaves_bayes() -> None:
    head = fit_head(Cases.of(triples(pools(habit=2.0))), LABELS, penalty=1e4)
    for name, array in BAYES.arrays().items():
        if name not in ("modalities", "labels"):
            np.testing.assert_allclose(head.arrays()[name], array, atol=1e-3)


def test_cases_say_what_the_deployed_rule_says() -> None:
    drawn = triples(pools(habit=1.0, sharp=2))
    head = fit_head(Cases.of(drawn), LABELS, penalty=1e-3)
    nll = []
    for subset in SUBSETS:
        probs, answered = fuse(Learned(head), drawn.only(subset))
        nll.append(report(drawn.y, probs, answered).nll)
    assert likelihood(head, Cases.of(drawn)) == pytest.approx(float(np.mean(nll)), abs=1e-6)


def test_nothing_is_learned_against_a_label_that_a_modality_was_never_shown() -> None:
    made = pools(habit=2.0)
    made[Modality.AUDIO] = [pool(seed=7, habit=np.zeros(K), labels=(0, 1))]
    drawn = triples(made)
    assert np.bincount(drawn.y).tolist() == [150, 150, 150]
    assert not drawn.there[drawn.y == 2, 1].any()
    assert drawn.there[drawn.y == 2][:, [0, 2]].all()
    assert not set(draw(made, per_label=5, reliability=SURE, prior=FLAT, seed=0).y.tolist()) & {2}
    cases = Cases.of(drawn)
    heard = cases.weights[:, 1] > 0
    assert not cases.open[heard, 2].any()
    assert cases.open[~heard].all()
    head = fit_head(cases, LABELS, penalty=1e-4)
    assert head.bias[1, 2] == 0
    assert head.mix[1, 2].tolist() == [0, 0, 1]


def test_halves_share_no_item_and_keep_the_grades_together() -> None:
    made = pools()
    first, second = halves(made)
    for m in Modality:
        rows = [{tuple(row) for row in half[m][0].probs.tolist()} for half in (first, second)]
        assert not rows[0] & rows[1]
        assert rows[0] | rows[1] == {tuple(row) for row in made[m][0].probs.tolist()}
        for half in (first, second):
            assert np.bincount(half[m][0].y).tolist() == [75, 75, 75]
            np.testing.assert_array_equal(half[m][0].y, half[m][1].y)
            np.testing.assert_array_equal(half[m][0].probs.argmax(axis=1), half[m][1].probs.argmax(axis=1))


def test_training_is_the_same_every_time_and_its_head_can_be_read(tmp_path: Path) -> None:
    config = load(ROOT / "config.toml", ['agent.labels=["neutral", "happy", "sad"]'])
    plan = replace(PLAN, per_label=25)
    head, figures = train(pools(habit=2.0), plan, config)
    again, same = train(pools(habit=2.0), plan, config)
    assert figures == same
    np.savez(tmp_path / "head.npz", allow_pickle=False, **head.arrays())
    read = read_learned(tmp_path / "head.npz")
    for name, array in again.arrays().items():
        np.testing.assert_array_equal(read.arrays()[name], array)
    assert set(figures["temperature"]) == set(RULES)
    assert figures["leak"] in LEAKS
    costs = figures["nll by leak, other half"]
    assert costs[f"{figures['leak']:g}"] <= costs["within"]
    seen = figures["nll by penalty, other half"]
    assert seen[f"{figures['penalty']:g}"] == min(value for name, value in seen.items() if name != "bayes")
    assert figures["other half"]["learned"]["nll"] < figures["other half"]["bayes, as it is"]["nll"]


def test_comments_of_dev_are_read_as_they_are_and_mistyped(tmp_path: Path) -> None:
    lines = [f"{i},{text},{label},{split}" for i, (text, label, split) in enumerate([
        ("I am so happy for you", "happy", "dev"), ("This makes me sad", "sad", "dev"),
        ("What a lovely day", "happy", "train"), ("I miss him so much", "sad", "test"),
    ])]  # fmt: skip
    (tmp_path / "labels.csv").write_text("\n".join(["id,text,label,split", *lines]))
    said: list[str] = []
    clean, mistyped = fusion_parts.texts(
        Config(), tmp_path, items=5, grades=(0, 3), cache=tmp_path / "cache", say=said.append
    )
    assert said == ["texts: 2 comments"]
    assert [Config().agent.labels[k] for k in clean.y.tolist()] == ["happy", "sad"]
    assert clean.probs.argmax(axis=1).tolist() == clean.y.tolist()
    assert not np.allclose(mistyped.probs, clean.probs, atol=0.1)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--data", "vision=x"], "wants --data vision=DIR --data audio=DIR --data text=DIR; found vision=x"),
        ([], "found none"),
        (["--data", "vision=x", "--data", "audio=y", "--data", "text=z"], "x/labels.csv"),
    ],
)
def test_what_is_given_wrongly_is_named(
    given: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program.main(["fusion", *given, "--cache", str(tmp_path)]) == 2
    assert said in capsys.readouterr().err
