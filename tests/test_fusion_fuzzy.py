"""The Choquet integral: against the measure of every subset, and against sums done by hand."""

from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from agent.fusion import Floats, Fuzzy, Mean, log1p_lambda
from tests.fused import Situation, distributions, rows, situations

Subset = frozenset[int]


def lambda_by_polynomial(densities: Floats) -> float:
    """The root above -1, other than 0, of Π (1 + λ g) - (1 + λ), as a polynomial in λ."""
    coefficients = np.array([1.0])
    for g in densities:
        coefficients = np.polymul(coefficients, [g, 1.0])
    coefficients = np.polysub(coefficients, [1.0, 1.0])[:-1]  # over λ: the root at 0 is out
    roots = np.roots(coefficients)
    real = roots[np.abs(roots.imag) < 1e-9 * np.maximum(1, np.abs(roots))].real
    (found,) = [root for root in real if root > -1]
    return float(found)


def measure_of_subsets(densities: Floats, lam: float) -> dict[Subset, float]:
    """g(A ∪ {i}) = g(A) + g_i + λ g(A) g_i."""
    measure: dict[Subset, float] = {frozenset(): 0.0}
    for size in range(1, len(densities) + 1):
        for members in combinations(range(len(densities)), size):
            g, rest = densities[members[-1]], measure[frozenset(members[:-1])]
            measure[frozenset(members)] = rest + g + lam * rest * g
    return measure


def choquet(values: Floats, measure: dict[Subset, float]) -> float:
    """The area under α → g of those whose value is at least α."""
    levels: list[float] = [0.0, *sorted(set(values.tolist()))]
    return sum(
        (high - low) * measure[frozenset(np.flatnonzero(values >= high).tolist())] for low, high in pairwise(levels)
    )


@given(st.lists(st.floats(0.05, 0.95), min_size=2, max_size=5), st.data())
def test_it_is_the_integral_over_all_subsets(densities: list[float], data: st.DataObject) -> None:
    weights = np.array(densities)
    assume(abs(weights.sum() - 1) > 0.01)  # the polynomial's own root is exact only apart from 0
    probs = np.array([data.draw(distributions(3)) for _ in densities])
    measure = measure_of_subsets(weights, lambda_by_polynomial(weights))
    assert measure[frozenset(range(len(weights)))] == pytest.approx(1)
    assert all(measure[a] <= measure[a | {i}] + 1e-12 for a in measure for i in range(len(weights)))
    want = np.array([choquet(probs[:, label], measure) for label in range(3)])
    flat = np.full(3, 1 / 3)
    found = Situation(probs, weights, np.tile(flat, (len(weights), 1)), flat).put_to(Fuzzy())
    assert found.probs == pytest.approx(want / want.sum(), abs=1e-7)


def test_two_by_hand() -> None:
    """g = .3 and .4: λ = (1 - .7) / .12 = 2.5. a: .2 * .3 + .4 * 1 = .46; b: .2 * .4 + .4 * 1 = .48."""
    even = np.full(2, 0.5)
    assert np.expm1(log1p_lambda(np.array([0.3, 0.4]))) == pytest.approx(2.5)
    combined = Situation(rows((0.6, 0.4), (0.4, 0.6)), np.array([0.3, 0.4]), rows(even, even), even).put_to(Fuzzy())
    assert combined.probs == pytest.approx([0.46 / 0.94, 0.48 / 0.94])
    # the first adds .6 * .3 to a and .4 * (1 - .4) to b; the second .4 * (1 - .3) to a and .6 * .4 to b
    assert combined.shares == pytest.approx([0.42 / 0.94, 0.52 / 0.94])


@given(st.floats(0.01, 0.99), st.floats(0.01, 0.99))
def test_lambda_of_two_is_a_quotient(a: float, b: float) -> None:
    assert np.expm1(log1p_lambda(np.array([a, b]))) == pytest.approx((1 - a - b) / (a * b), rel=1e-9, abs=1e-9)


@given(st.lists(st.floats(5e-324, 1), min_size=2, max_size=30))
def test_lambda_solves_its_equation_however_small_the_densities(densities: list[float]) -> None:
    g = np.array(densities)
    t = log1p_lambda(g)
    if t == -np.inf:
        assert g.max() == 1
        return
    assert np.sign(t) == np.sign(1 - g.sum()) or abs(g.sum() - 1) < 1e-9
    with np.errstate(divide="ignore"):  # log 0 for a density of 1
        terms = np.logaddexp(np.log1p(-g), t + np.log(g))  # log(1 - g + g e^t), where 1 + λ = e^t
    assert terms.sum() == pytest.approx(t, rel=1e-9, abs=1e-9)


def test_densities_that_sum_to_one_give_the_weighted_mean() -> None:
    flat = np.full(3, 1 / 3)
    situation = Situation(rows((0.6, 0.3, 0.1), (0.2, 0.2, 0.6)), np.array([0.7, 0.3]), rows(flat, flat), flat)
    fuzzy, mean = situation.put_to(Fuzzy()), situation.put_to(Mean())
    assert fuzzy.probs == pytest.approx(mean.probs, abs=1e-12)
    assert fuzzy.shares == pytest.approx(mean.shares, abs=1e-12)


def test_next_to_one_it_is_next_to_the_mean() -> None:
    flat = np.full(3, 1 / 3)
    for off in (-1e-6, -1e-9, -1e-11, 1e-11, 1e-9, 1e-6):
        situation = Situation(
            rows((0.6, 0.3, 0.1), (0.2, 0.2, 0.6)), np.array([0.7, 0.3 + off]), rows(flat, flat), flat
        )
        assert situation.put_to(Fuzzy()).probs == pytest.approx(situation.put_to(Mean()).probs, abs=1e-6)


@given(situation=situations(least=1))
def test_full_weights_take_the_greatest_word(situation: Situation) -> None:
    want = situation.probs.max(axis=0)
    full = Situation(situation.probs, np.ones(len(situation.weights)), situation.priors, situation.prior)
    assert full.put_to(Fuzzy()).probs == pytest.approx(want / want.sum(), abs=1e-9)


@given(situation=situations(least=1))
def test_vanishing_weights_take_the_smallest_word(situation: Situation) -> None:
    probs: Floats = 0.9 * situation.probs + 0.1 / len(situation.prior)
    want = probs.min(axis=0)
    faint = Situation(probs, np.full(len(probs), 1e-200), situation.priors, situation.prior)
    assert faint.put_to(Fuzzy()).probs == pytest.approx(want / want.sum(), abs=1e-9)


@given(situation=situations(least=1), weight=st.floats(1e-9, 1))
def test_one_modality_alone_is_believed(situation: Situation, weight: float) -> None:
    one = Situation(situation.probs[:1], np.array([weight]), situation.priors[:1], situation.prior)
    assert one.put_to(Fuzzy()).probs == pytest.approx(one.probs[0], abs=1e-9)


def test_a_partner_that_hardly_weighs_holds_a_veto_until_it_is_gone() -> None:
    """The measure of both is 1 however faint the second. a: .6 * .5 + .3 * 1, b: .1 * 1."""
    flat = np.full(2, 0.5)
    fading = Situation(rows((0.9, 0.1), (0.3, 0.7)), np.array([0.5, 1e-9]), rows(flat, flat), flat)
    assert fading.put_to(Fuzzy()).probs == pytest.approx([0.6 / 0.7, 0.1 / 0.7], abs=1e-6)
    assert fading.of([0]).put_to(Fuzzy()).probs == pytest.approx([0.9, 0.1])


def test_weights_have_bounds() -> None:
    flat = np.full(2, 0.5)
    with pytest.raises(ValueError, match="fuzzy takes weights from 0 to 1"):
        Fuzzy().combine(rows(flat), np.array([1.5]), rows(flat), flat)
