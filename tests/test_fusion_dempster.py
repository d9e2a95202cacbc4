"""Dempster-Shafer: against beliefs on sets, combined one by one, and against sums done by hand."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given

from agent.fusion import Dempster, Floats, conjunction
from tests.fused import Situation, rows, situations

EVEN = np.full(2, 0.5)
TWO = Situation(rows((0.9, 0.1), (0.4, 0.6)), np.array([0.8, 0.5]), rows(EVEN, EVEN), EVEN)
"""By hand: m1 = (.72, .08, Θ .2), m2 = (.2, .3, Θ .5); m(a) = .544, m(b) = .124, m(Θ) = .1, K = .232."""

Belief = dict[frozenset[int], float]


def discounted(probs: Floats, weight: float) -> Belief:
    """m(A) = w p(A), m(Θ) = 1 - w."""
    belief = {frozenset([label]): weight * float(p) for label, p in enumerate(probs)}
    return belief | {frozenset(range(len(probs))): 1 - weight}


def conjoined(one: Belief, other: Belief) -> Belief:
    """Every product of masses goes to the intersection of its sets; the empty set keeps what falls to it."""
    both: Belief = {}
    for (a, mass_a), (b, mass_b) in product(one.items(), other.items()):
        both[a & b] = both.get(a & b, 0) + mass_a * mass_b
    return both


@given(situation=situations(least=1))
def test_the_conjunction_is_that_of_belief_functions(situation: Situation) -> None:
    labels = len(situation.prior)
    belief: Belief = {frozenset(range(labels)): 1.0}
    for probs, weight in zip(situation.probs, situation.weights, strict=True):
        belief = conjoined(belief, discounted(probs, float(weight)))
    masses, ignorance = conjunction(situation.probs, situation.weights)
    assert masses == pytest.approx([belief[frozenset([label])] for label in range(labels)], abs=1e-12)
    assert ignorance == pytest.approx(belief[frozenset(range(labels))], abs=1e-12)
    assert 1 - masses.sum() - ignorance == pytest.approx(belief.get(frozenset(), 0), abs=1e-12)


def test_dempsters_rule_divides_the_conflict_out() -> None:
    combined = TWO.put_to(Dempster())
    assert combined.probs == pytest.approx([0.594 / 0.768, 0.174 / 0.768])


def test_above_the_threshold_yagers_rule_says_that_it_does_not_know() -> None:
    assert TWO.put_to(Dempster(yager_above=0.2)).probs == pytest.approx([0.544 + 0.332 / 2, 0.124 + 0.332 / 2])
    assert TWO.put_to(Dempster(yager_above=0.24)).probs == pytest.approx([0.594 / 0.768, 0.174 / 0.768])


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_a_conflict_of_just_the_threshold_stays_with_dempster(order: tuple[int, ...]) -> None:
    # one against one with weights 1 and .7: K = .7, give or take a rounding
    probs = rows((1, 0), (0, 1), (0.5, 0.5))
    situation = Situation(probs, np.array([1, 0.7, 1e-17]), rows(EVEN, EVEN, EVEN), EVEN)
    assert situation.of(order).put_to(Dempster()).probs == pytest.approx([1, 0], abs=1e-9)


def test_zadehs_doctors() -> None:
    """Two are all but sure of different diseases, and neither rules the third out (Zadeh 1979)."""
    prior = np.array([0.5, 0.3, 0.2])
    doctors = Situation(rows((0.99, 0.01, 0), (0, 0.01, 0.99)), np.ones(2), rows(prior, prior), prior)
    assert doctors.put_to(Dempster(yager_above=1)).probs == pytest.approx([0, 1, 0], abs=1e-6)
    assert doctors.put_to(Dempster()).probs == pytest.approx(0.9999 * prior + [0, 0.0001, 0], abs=1e-6)


def test_the_prior_bets_what_is_left_open() -> None:
    prior = np.array([0.9, 0.1])
    one = Situation(rows((0.2, 0.8)), np.array([0.6]), rows(EVEN), prior)
    assert one.put_to(Dempster()).probs == pytest.approx([0.6 * 0.2 + 0.4 * 0.9, 0.6 * 0.8 + 0.4 * 0.1])


def test_who_agrees_does_not_conflict_however_much_contradiction_their_doubt_leaves() -> None:
    unsure = np.array([0.6, 0.1, 0.1, 0.1, 0.1])
    flat = np.full(5, 0.2)
    agreed = Situation(rows(unsure, unsure, unsure), np.ones(3), rows(flat, flat, flat), flat).put_to(Dempster())
    masses, ignorance = conjunction(rows(unsure, unsure, unsure), np.ones(3))
    assert 1 - masses.sum() - ignorance > 0.7
    assert agreed.conflict == pytest.approx(0)


def test_a_flat_posterior_contributes_nothing() -> None:
    combined = Situation(rows((0.5, 0.5), (0.9, 0.1)), np.ones(2), rows(EVEN, EVEN), EVEN).put_to(Dempster())
    assert combined.shares == pytest.approx([0, 1])


def test_weights_and_thresholds_have_bounds() -> None:
    with pytest.raises(ValueError, match="dempster takes weights from 0 to 1"):
        Dempster().combine(rows(EVEN), np.array([1.5]), rows(EVEN), EVEN)
    with pytest.raises(ValueError, match="yager_above must be from 0 to 1"):
        Dempster(yager_above=1.5)
