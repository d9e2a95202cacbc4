"""What holds for every rule of fusion, and the simple ones from their definitions."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.fusion import Bayes, Floats, Max, Mean, Vote, conflict, rebased
from tests.fused import RULES, Situation, distributions, rows, situations

UNIFORM = np.full(3, 1 / 3)


@pytest.mark.parametrize("name", RULES)
class TestEveryRule:
    @settings(max_examples=25)  # a rule
    @given(situation=situations())
    def test_gives_a_distribution_its_shares_and_a_conflict(self, name: str, situation: Situation) -> None:
        combined = situation.put_to(RULES[name](*situation.probs.shape))
        assert combined.probs.shape == situation.prior.shape
        assert combined.probs.sum() == pytest.approx(1)
        assert (combined.probs >= 0).all()
        assert 0 <= combined.conflict <= 1
        assert combined.shares.shape == situation.weights.shape
        assert (combined.shares >= 0).all()
        assert combined.shares.sum() == pytest.approx(1 if combined.shares.any() else 0)

    @settings(max_examples=25)  # a rule
    @given(situation=situations(least=2), data=st.data())
    def test_does_not_mind_the_order_of_the_modalities(
        self, name: str, situation: Situation, data: st.DataObject
    ) -> None:
        order = data.draw(st.permutations(range(len(situation.weights))))
        rule = RULES[name](*situation.probs.shape)
        combined, turned = situation.put_to(rule), situation.of(order).put_to(rule)
        assert turned.probs == pytest.approx(combined.probs, abs=1e-9)
        assert turned.conflict == pytest.approx(combined.conflict, abs=1e-9)
        assert turned.shares == pytest.approx(combined.shares[order], abs=1e-6)

    @settings(max_examples=25)  # a rule
    @given(situation=situations(least=1), data=st.data())
    def test_is_not_shown_what_a_modality_of_weight_zero_says(
        self, name: str, situation: Situation, data: st.DataObject
    ) -> None:
        labels = len(situation.prior)
        situation.weights[0] = 0
        rule = RULES[name](*situation.probs.shape)
        combined = situation.put_to(rule)
        situation.probs[0] = data.draw(distributions(labels))
        situation.priors[0] = data.draw(distributions(labels))
        other = situation.put_to(rule)
        assert other.probs.tolist() == combined.probs.tolist()
        assert (other.conflict, other.shares.tolist()) == (combined.conflict, combined.shares.tolist())
        assert combined.shares[0] == 0

    def test_all_weights_zero_gives_the_prior(self, name: str) -> None:
        prior = np.array([0.5, 0.3, 0.2])
        situation = Situation(rows((0.9, 0.05, 0.05), (0.1, 0.8, 0.1)), np.zeros(2), rows(UNIFORM, UNIFORM), prior)
        combined = situation.put_to(RULES[name](2, 3))
        assert combined.probs == pytest.approx(prior, abs=1e-15)
        assert (combined.conflict, combined.shares.tolist()) == (0, [0, 0])

    def test_no_modality_at_all_gives_the_prior(self, name: str) -> None:
        prior = np.array([0.5, 0.3, 0.2])
        combined = RULES[name](0, 3).combine(np.empty((0, 3)), np.empty(0), np.empty((0, 3)), prior)
        assert combined.probs == pytest.approx(prior, abs=1e-15)

    def test_refuses_shapes_and_values_that_do_not_fit(self, name: str) -> None:
        with pytest.raises(ValueError, match="shapes"):
            RULES[name](2, 3).combine(rows(UNIFORM), np.ones(2), rows(UNIFORM), UNIFORM)
        with pytest.raises(ValueError, match="weights"):
            RULES[name](1, 3).combine(rows(UNIFORM), np.array([np.nan]), rows(UNIFORM), UNIFORM)

    def test_a_certain_zero_vetoes_nothing(self, name: str) -> None:
        situation = Situation(rows((1, 0), (0, 1)), np.ones(2), rows((0.5, 0.5), (0.5, 0.5)), np.full(2, 0.5))
        rule = RULES[name](2, 2)
        combined = situation.put_to(rule)
        assert combined.conflict == pytest.approx(1, abs=1e-6)
        assert (combined.probs > 1e-3).all()
        assert situation.of([1, 0]).put_to(rule).probs == pytest.approx(combined.probs)


@pytest.mark.parametrize("name", [name for name in RULES if name != "learned"])  # its rows have names and all must come
@given(situation=situations(least=1))
def test_a_zero_weight_is_as_if_that_modality_were_not_there(name: str, situation: Situation) -> None:
    situation.weights[0] = 0
    rule = RULES[name](*situation.probs.shape)
    with_it, without = situation.put_to(rule), situation.of(range(1, len(situation.weights))).put_to(rule)
    assert with_it.probs.tolist() == without.probs.tolist()
    assert (with_it.conflict, with_it.shares.tolist()) == (without.conflict, [0, *without.shares.tolist()])


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


def opposed(p: float) -> Situation:
    """Two modalities, of which one has lost; their conflict grows with ``p``."""
    probs = rows((p, 1 - p), ((1 - p) / 2, (1 + p) / 2))
    return Situation(probs, np.array([0.9, 0.6]), rows((0.4, 0.6), (0.5, 0.5)), np.array([0.7, 0.3]))


def test_bayes_hands_over_to_the_mean_where_conflict_is_high() -> None:
    calm, torn = opposed(0.6), opposed(0.999)
    assert calm.put_to(Bayes()).conflict < 0.5 < 0.6 < torn.put_to(Bayes()).conflict
    rule = Bayes(handover=0.5)
    assert calm.put_to(rule).probs.tolist() == calm.put_to(Bayes()).probs.tolist()
    mean = Mean().combine(rebased(torn.probs, torn.priors, torn.prior), torn.weights, torn.priors, torn.prior)
    assert torn.put_to(rule).probs == pytest.approx(mean.probs)
    assert torn.put_to(rule).shares == pytest.approx([0.6, 0.4])


def test_the_hand_over_is_gradual() -> None:
    steps = [opposed(p).put_to(Bayes(handover=0.5)) for p in np.linspace(0.5, 0.999, 2000)]
    assert {step.conflict > 0.5 for step in steps} == {True, False}
    assert {step.conflict > 0.6 for step in steps} == {True, False}
    assert max(abs(b.probs[0] - a.probs[0]) for a, b in pairwise(steps)) < 0.01


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
    assert conflict(np.eye(3), np.ones(3)) == pytest.approx(1)


def test_what_hardly_weighs_hardly_conflicts() -> None:
    one_against_one = rows((1, 0), (0, 1))
    assert conflict(one_against_one, np.array([0.9, 0.01])) < 0.1 < conflict(one_against_one, np.array([0.9, 0.2]))


@given(st.lists(st.floats(0.01, 1), min_size=2, max_size=5), st.data())
def test_conflict_changes_little_when_a_weight_fades_away(weights: list[float], data: st.DataObject) -> None:
    probs = np.array([data.draw(distributions(4)) for _ in range(len(weights) + 1)])
    without = conflict(probs[:-1], np.array(weights))
    assert conflict(probs, np.array([*weights, 1e-9])) == pytest.approx(without, abs=1e-4)


def test_rebased_is_bayes_rule_for_another_prior() -> None:
    likelihood, trained, prior = np.array([0.2, 0.6, 0.1]), np.array([0.5, 0.3, 0.2]), np.array([0.1, 0.1, 0.8])
    posterior, want = likelihood * trained, likelihood * prior
    found = rebased(rows(posterior / posterior.sum()), rows(trained), prior)
    assert found == pytest.approx(rows(want / want.sum()))


@given(situation=situations(least=1))
def test_rebasing_leaves_what_bayes_says(situation: Situation) -> None:
    probs: Floats = 0.99 * situation.probs + 0.01 / len(situation.prior)
    based = rebased(probs, situation.priors, situation.prior)
    own = np.tile(situation.prior, (len(situation.weights), 1))
    before = Bayes().combine(probs, situation.weights, situation.priors, situation.prior)
    after = Bayes().combine(based, situation.weights, own, situation.prior)
    assert after.probs == pytest.approx(before.probs, abs=1e-6)
