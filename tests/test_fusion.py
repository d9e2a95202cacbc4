from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.fusion import Bayes, Floats, Max, Mean, Rule, Vote, conflict
from agent.smoothing import StickyFilter

RULES: list[Rule] = [Bayes(), Mean(), Max(), Vote()]
UNIFORM = np.full(3, 1 / 3)


def rows(*values: Sequence[float] | Floats) -> Floats:
    return np.array(values, np.float64)


def distributions(count: int) -> st.SearchStrategy[Floats]:
    row = st.lists(st.floats(0.001, 1), min_size=3, max_size=3).map(lambda r: np.array(r) / sum(r))
    return st.lists(row, min_size=count, max_size=count).map(np.array)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
class TestEveryRule:
    @given(
        distributions(3),
        st.lists(st.floats(0, 1), min_size=3, max_size=3).map(np.array),
        distributions(3),
        distributions(1),
    )
    def test_gives_a_distribution(
        self, rule: Rule, probs: Floats, weights: Floats, priors: Floats, prior: Floats
    ) -> None:
        combined = rule.combine(probs, weights, priors, prior[0])
        assert combined.probs.sum() == pytest.approx(1)
        assert (combined.probs >= 0).all()
        assert 0 <= combined.conflict <= 1
        assert combined.shares.sum() == pytest.approx(1 if combined.shares.any() else 0)

    def test_all_weights_zero_gives_the_prior(self, rule: Rule) -> None:
        prior = np.array([0.5, 0.3, 0.2])
        combined = rule.combine(rows((0.9, 0.05, 0.05), (0.1, 0.8, 0.1)), np.zeros(2), rows(UNIFORM, UNIFORM), prior)
        assert combined.probs == pytest.approx(prior)
        assert (combined.conflict, combined.shares.tolist()) == (0, [0, 0])

    def test_no_modality_at_all_gives_the_prior(self, rule: Rule) -> None:
        prior = np.array([0.5, 0.3, 0.2])
        combined = rule.combine(np.empty((0, 3)), np.empty(0), np.empty((0, 3)), prior)
        assert combined.probs == pytest.approx(prior)

    @given(distributions(2), distributions(1))
    def test_a_zero_weight_is_as_if_that_modality_were_not_there(
        self, rule: Rule, probs: Floats, prior: Floats
    ) -> None:
        priors = rows(UNIFORM, UNIFORM)
        with_it = rule.combine(probs, np.array([0.7, 0.0]), priors, prior[0])
        without = rule.combine(probs[:1], np.array([0.7]), priors[:1], prior[0])
        assert with_it.probs == pytest.approx(without.probs)
        assert with_it.conflict == without.conflict == 0
        assert with_it.shares[1] == 0

    def test_refuses_shapes_and_values_that_do_not_fit(self, rule: Rule) -> None:
        with pytest.raises(ValueError, match="shapes"):
            rule.combine(rows(UNIFORM), np.ones(2), rows(UNIFORM), UNIFORM)
        with pytest.raises(ValueError, match="weights"):
            rule.combine(rows(UNIFORM), np.array([np.nan]), rows(UNIFORM), UNIFORM)

    def test_a_certain_zero_vetoes_nothing(self, rule: Rule) -> None:
        combined = rule.combine(rows((1, 0, 0), (0, 1, 0)), np.ones(2), rows(UNIFORM, UNIFORM), UNIFORM)
        assert np.isfinite(combined.probs).all()
        assert combined.probs[0] == pytest.approx(combined.probs[1])
        assert combined.conflict == pytest.approx(1, abs=1e-6)


def test_bayes_with_weight_one_is_naive_bayes() -> None:
    prior = np.array([0.5, 0.3, 0.2])
    likelihood = rows((0.2, 0.6, 0.1), (0.7, 0.3, 0.4))  # p(observation | label)
    posteriors = likelihood * prior
    posteriors /= posteriors.sum(axis=1, keepdims=True)
    want = prior * likelihood.prod(axis=0)
    combined = Bayes().combine(posteriors, np.ones(2), rows(prior, prior), prior)
    assert combined.probs == pytest.approx(want / want.sum())


def test_bayes_removes_each_modalitys_own_prior() -> None:
    skewed = np.array([0.8, 0.1, 0.1])
    combined = Bayes().combine(rows(skewed), np.ones(1), rows(skewed), UNIFORM)
    assert combined.probs == pytest.approx(UNIFORM)  # it said no more than its training prior


def test_mean_is_the_weighted_mean() -> None:
    probs = rows((0.6, 0.3, 0.1), (0.2, 0.2, 0.6))
    combined = Mean().combine(probs, np.array([0.9, 0.3]), rows(UNIFORM, UNIFORM), UNIFORM)
    assert combined.probs == pytest.approx([0.5, 0.275, 0.225])
    assert combined.shares == pytest.approx([0.75, 0.25])


def test_max_takes_the_strongest_word_on_each_label() -> None:
    probs = rows((0.6, 0.3, 0.1), (0.2, 0.2, 0.6))
    combined = Max().combine(probs, np.ones(2), rows(UNIFORM, UNIFORM), UNIFORM)
    assert combined.probs == pytest.approx([0.4, 0.2, 0.4])
    assert combined.shares == pytest.approx([0.6, 0.4])


def test_vote_counts_weights_and_shares_a_tie() -> None:
    probs = rows((0.6, 0.3, 0.1), (0.2, 0.4, 0.4), (0.5, 0.3, 0.2))
    combined = Vote().combine(probs, np.array([0.5, 0.8, 0.3]), rows(UNIFORM, UNIFORM, UNIFORM), UNIFORM)
    assert combined.probs == pytest.approx([0.5, 0.25, 0.25])


def test_conflict_grows_with_disagreement() -> None:
    def between(p: float) -> float:
        return conflict(rows((p, 1 - p), (1 - p, p)), np.ones(2))

    values = [between(p) for p in (0.5, 0.7, 0.9, 1.0)]
    assert values == sorted(values)
    assert values[0] == pytest.approx(0)
    assert values[-1] == pytest.approx(1)


def test_what_hardly_weighs_hardly_conflicts() -> None:
    opposed = rows((1, 0), (0, 1))
    assert conflict(opposed, np.array([0.9, 0.01])) < 0.1 < conflict(opposed, np.array([0.9, 0.2]))


SECOND = 1_000_000_000


def test_the_filter_believes_repeated_evidence_and_forgets_without_it() -> None:
    smooth = StickyFilter(UNIFORM, dwell_ns=2 * SECOND, trust=0.5)
    happy = np.array([0.8, 0.1, 0.1])
    first, *_, last = (float(smooth.update(happy, t * SECOND // 2)[0]) for t in range(6))
    assert first == pytest.approx(0.8)
    assert last > 0.8
    faded = [float(smooth.update(UNIFORM, t * SECOND)[0]) for t in range(3, 40)]
    assert faded == sorted(faded, reverse=True)
    assert faded[-1] == pytest.approx(1 / 3, abs=1e-3)


def test_one_odd_window_does_not_overturn_a_steady_belief() -> None:
    smooth = StickyFilter(UNIFORM, dwell_ns=3 * SECOND, trust=0.5)
    for t in range(8):
        smooth.update(np.array([0.8, 0.1, 0.1]), t * SECOND // 2)
    assert smooth.update(np.array([0.2, 0.7, 0.1]), 4 * SECOND).argmax() == 0
