"""Fitting of linear heads: it learns, it is calibrated, and folds keep groups apart."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from engines.evaluation.metrics import report
from engines.training.__main__ import main
from engines.training.linear import fit, fit_temperature

LABELS = ("neutral", "happy", "sad")
MEANS = np.array([[0.0, 0.0, 0.0, 5.0], [1.5, 0.0, 0.0, 5.0], [0.0, 1.5, 0.0, 5.0]])
FREQUENCY = np.array([0.6, 0.3, 0.1])


def gaussians(n: int, *, seed: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.intp]]:
    """Three classes of unit variance, and a constant fourth feature."""
    rng = np.random.default_rng(seed)
    y = rng.choice(3, size=n, p=FREQUENCY)
    x = MEANS[y] + rng.normal(size=(n, 4)) * [1, 1, 1, 0]
    return x, y.astype(np.intp)


def true_posterior(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    odds = np.exp(-((x[:, np.newaxis] - MEANS) ** 2).sum(axis=2) / 2) * FREQUENCY
    return np.asarray(odds / odds.sum(axis=1, keepdims=True))


def test_head_comes_close_to_the_true_posterior() -> None:
    x, y = gaussians(4000, seed=1)
    head = fit(x, y, labels=LABELS, c=(0.01, 1.0))
    probs, (fresh, truth) = head.posterior(x), gaussians(4000, seed=2)
    assert np.abs(probs - true_posterior(x)).mean() < 0.02
    np.testing.assert_allclose(head.prior, np.bincount(y) / len(y))
    measured = report(truth, head.posterior(fresh))
    assert measured.ece < 0.03
    assert measured.accuracy == pytest.approx(report(truth, true_posterior(fresh)).accuracy, abs=0.01)


def test_balanced_head_under_the_true_prior_is_the_plain_one() -> None:
    x, y = gaussians(4000, seed=1)
    balanced = fit(x, y, labels=LABELS, class_weight="balanced")
    np.testing.assert_allclose(balanced.prior, 1 / 3, rtol=1e-9)
    assert np.abs(balanced.under(np.bincount(y) / len(y)).posterior(x) - true_posterior(x)).mean() < 0.02


def test_two_labels() -> None:
    x, y = gaussians(2000, seed=3)
    keep = y < 2
    head = fit(x[keep], y[keep], labels=LABELS[:2])
    assert report(y[keep], head.posterior(x[keep])).uar > 0.7


def test_temperature_undoes_overconfidence() -> None:
    x, y = gaussians(4000, seed=4)
    logits = np.log(true_posterior(x))
    assert fit_temperature(3 * logits, y) == pytest.approx(3, rel=0.1)
    assert fit_temperature(logits / 3, y) == pytest.approx(1 / 3, rel=0.1)


def test_held_out_data_sets_the_temperature() -> None:
    x, y = gaussians(60, seed=5)
    unseen = gaussians(2000, seed=6)
    alone, calibrated = fit(x, y, labels=LABELS, c=100), fit(x, y, labels=LABELS, c=100, held_out=unseen)
    assert calibrated.temperature > 1, "sixty examples make an over-confident head"
    np.testing.assert_array_equal(alone.weight, calibrated.weight)


def test_folds_keep_groups_apart() -> None:
    """With the label readable from the group alone, only honest folds see that it does not carry over."""
    groups = np.repeat(np.arange(24), 20)
    y = (groups % 3).astype(np.intp)
    x = np.eye(24)[groups] + np.random.default_rng(7).normal(size=(480, 24)) * 0.01
    probs = np.zeros((len(y), len(LABELS)))
    for group in np.unique(groups):
        others, own = groups != group, groups == group
        probs[own] = fit(x[others], y[others], labels=LABELS, groups=groups[others], folds=4).posterior(x[own])
    assert report(y, probs).accuracy < 0.6
    assert report(y, probs).nll < 1.3, "the temperature of honest folds admits it: a guess has 1.10"
    assert fit(x, y, labels=LABELS, groups=groups, folds=4).temperature > 1
    assert fit(x, y, labels=LABELS).temperature < 1


def test_a_label_without_examples_is_an_error() -> None:
    x, y = gaussians(100, seed=8)
    with pytest.raises(ValueError, match=r"'sad': 0"):
        fit(x[y < 2], y[y < 2], labels=LABELS)


def test_dispatch_names_the_encoders(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fase", "--data", "x"]) == 2
    said = capsys.readouterr().err
    assert "'fase'" in said
    assert "face|voice|language" in said
