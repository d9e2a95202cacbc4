"""The measures, against scikit-learn and against examples worked by hand."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from sklearn import metrics as reference

from engines.evaluation.metrics import (
    NONE,
    accuracy,
    area_under_risk,
    auc,
    brier,
    confusion,
    ece,
    macro_f1,
    nll,
    recalls,
    reliability,
    report,
    risk_coverage,
    uar,
)

LABELS = 7


def drawn(n: int = 500, *, seed: int = 1) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64]]:
    """Truths of five of seven labels, unevenly, and posteriors that lean towards them; some tie."""
    rng = np.random.default_rng(seed)
    y = rng.choice([0, 1, 2, 4, 6], size=n, p=[0.5, 0.2, 0.15, 0.1, 0.05])
    logits = rng.normal(size=(n, LABELS)).round(1)
    logits[np.arange(n), y] += 1
    odds = np.exp(logits)
    return y.astype(np.intp), odds / odds.sum(axis=1, keepdims=True)


def test_as_scikit_learn() -> None:
    y, probs = drawn()
    predicted = probs.argmax(axis=1)
    present = np.unique(y)
    found = report(y, probs)
    assert found.accuracy == pytest.approx(reference.accuracy_score(y, predicted))
    recall = reference.recall_score(y, predicted, labels=present, average=None)
    np.testing.assert_allclose([found.recall[k] for k in present.tolist()], recall)
    assert found.uar == pytest.approx(recall.mean())
    assert found.macro_f1 == pytest.approx(reference.f1_score(y, predicted, labels=present, average="macro"))
    assert found.nll == pytest.approx(reference.log_loss(y, probs, labels=range(LABELS)))
    assert found.brier == pytest.approx(sum(np.mean((probs[:, k] - (y == k)) ** 2) for k in range(LABELS)))
    np.testing.assert_array_equal(
        confusion(y, predicted, LABELS)[:, :LABELS], reference.confusion_matrix(y, predicted, labels=range(LABELS))
    )


def test_unanswered_is_wrong_but_has_no_likelihood() -> None:
    y, probs = drawn()
    answered = np.random.default_rng(2).random(len(y)) < 0.7
    predicted = np.where(answered, probs.argmax(axis=1), NONE)
    present = np.unique(y)
    found = report(y, probs, answered)
    assert found.n == 500
    assert found.answered == answered.mean()
    assert found.accuracy == pytest.approx(reference.accuracy_score(y, predicted))
    assert found.uar == pytest.approx(reference.recall_score(y, predicted, labels=present, average="macro"))
    assert found.macro_f1 == pytest.approx(reference.f1_score(y, predicted, labels=present, average="macro"))
    alone = report(y[answered], probs[answered])
    assert (found.nll, found.ece, found.brier) == (alone.nll, alone.ece, alone.brier)
    table = confusion(y, predicted, LABELS)
    assert table.sum() == 500
    assert table[:, LABELS].sum() == (~answered).sum()
    assert "answered" in str(found)
    assert "answered" not in str(alone)


def test_nothing_answered() -> None:
    y, probs = drawn(20)
    found = report(y, probs, np.zeros(20, bool))
    assert (found.answered, found.accuracy, found.uar, found.macro_f1) == (0, 0, 0, 0)
    assert np.isnan([found.nll, found.ece, found.brier]).all()


@pytest.mark.parametrize("decimals", [1, 9])
def test_auc_as_scikit_learn_with_and_without_ties(decimals: int) -> None:
    rng = np.random.default_rng(3)
    positive = rng.random(300) < 0.3
    scores = (rng.normal(size=300) + positive).round(decimals)
    assert auc(positive, scores) == pytest.approx(reference.roc_auc_score(positive, scores))


def test_auc_by_hand() -> None:
    positive = np.array([True, True, False, False])
    assert auc(positive, np.array([0.9, 0.4, 0.4, 0.1])) == pytest.approx(3.5 / 4)
    assert np.isnan(auc(positive[:2], np.array([0.9, 0.4])))


def test_report_by_hand() -> None:
    y = np.array([0, 0, 1, 1])
    probs = np.array([[0.9, 0.1, 0.0], [0.4, 0.6, 0.0], [0.2, 0.8, 0.0], [0.3, 0.7, 0.0]])
    measured = report(y, probs)
    assert (measured.n, measured.answered, measured.accuracy, measured.uar) == (4, 1, 0.75, 0.75)
    assert measured.recall == {0: 0.5, 1: 1.0}
    assert measured.macro_f1 == pytest.approx((2 / 3 + 4 / 5) / 2)
    assert measured.nll == pytest.approx(-np.log([0.9, 0.4, 0.8, 0.7]).mean())
    assert measured.brier == pytest.approx(2 * np.mean([0.1**2, 0.6**2, 0.2**2, 0.3**2]))
    # bins of 1/15: .9 -> 13, .6 -> 9, .8 -> 12, .7 -> 10: each alone, gaps .1, .6, .2, .3
    assert measured.ece == pytest.approx(1.2 / 4)
    assert "accuracy 0.750" in str(measured)


def test_ece_puts_what_is_alike_into_one_bin() -> None:
    probs = np.array([[0.61, 0.39], [0.65, 0.35], [0.95, 0.05]])  # bins 9, 9 and 14 of 15
    assert ece(np.array([0, 1, 0]), probs) == pytest.approx((abs(1 - 1.26) + 0.05) / 3)
    confidence, right, size = reliability(np.array([0, 1, 0]), probs)
    assert size.tolist() == [0] * 9 + [2, 0, 0, 0, 0, 1]
    assert confidence[9] == pytest.approx(0.63)
    assert right[9] == 0.5
    assert np.isnan(right[0])


def test_ece_of_certainty_falls_into_the_last_bin() -> None:
    assert ece(np.array([0, 1]), np.array([[1.0, 0.0], [1.0, 0.0]])) == pytest.approx(0.5)


def test_an_impossible_truth_has_a_finite_nll() -> None:
    assert nll(np.array([1]), np.array([[1.0, 0.0]])) == pytest.approx(-np.log(1e-12))


def test_risk_and_coverage_by_hand() -> None:
    correct = np.array([True, False, True, True])
    coverage, risk = risk_coverage(correct, np.array([0.9, 0.5, 0.7, 0.5]))
    np.testing.assert_allclose(coverage, [0.25, 0.5, 1.0])
    np.testing.assert_allclose(risk, [0, 0, 0.25])
    assert area_under_risk(correct, np.array([0.9, 0.5, 0.7, 0.5])) == pytest.approx(0.125)
    assert area_under_risk(correct, np.zeros(4)) == pytest.approx(0.25)


def test_no_items_is_an_error() -> None:
    none, probs = np.zeros(0, np.intp), np.zeros((0, 3))
    for measure in (accuracy, uar, macro_f1, recalls):
        with pytest.raises(ValueError, match="no items"):
            measure(none, none)
    for judge in (nll, ece, brier):
        with pytest.raises(ValueError, match="no items"):
            judge(none, probs)
    with pytest.raises(ValueError, match="no items"):
        report(none, probs)
