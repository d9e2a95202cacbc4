"""The trained rule, with parameters made by hand."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given

from agent.deciding.head import read_learned
from agent.fusion import Bayes, Floats, Learned, LearnedHead, conflict
from tests.fused import Situation, names, rows, situations

FLAT = np.full(3, 1 / 3)
BAYES = LearnedHead.bayes(("vision", "audio"), ("a", "b", "c"))
BOTH = Situation(rows((0.6, 0.3, 0.1), (0.2, 0.3, 0.5)), np.array([0.9, 0.4]), rows(FLAT, (0.5, 0.3, 0.2)), FLAT)


def answer(head: LearnedHead, situation: Situation = BOTH) -> Floats:
    return situation.put_to(Learned(head)).probs


@given(situation=situations())
def test_untrained_it_is_bayes_on_every_subset(situation: Situation) -> None:
    m, k = situation.probs.shape
    situation.weights[situation.weights < 1e-300] = 0  # what is left of so small a number is not to be compared
    learned, bayes = (
        situation.put_to(Learned(LearnedHead.bayes(names("m", m), names("l", k)))),
        situation.put_to(Bayes()),
    )
    assert learned.probs == pytest.approx(bayes.probs, abs=1e-9)
    assert learned.shares == pytest.approx(bayes.shares, abs=1e-9)


def test_mix_carries_what_is_said_of_one_label_to_another() -> None:
    mix = np.stack([np.eye(3)[[1, 0, 2]], np.eye(3)])  # vision takes a for b
    turned = Situation(BOTH.probs.copy(), BOTH.weights, BOTH.priors, FLAT)
    turned.probs[0] = BOTH.probs[0][[1, 0, 2]]
    assert answer(replace(BAYES, mix=mix)) == pytest.approx(turned.put_to(Bayes()).probs)


def test_bias_takes_back_a_habit_and_only_where_the_modality_is_there() -> None:
    habit = np.array([0.7, 0.2, 0.1])
    head = replace(BAYES, bias=np.stack([-np.log(habit / FLAT), np.zeros(3)]))
    alone = Situation(rows(habit, FLAT), np.array([1.0, 0.0]), rows(FLAT, FLAT), FLAT)
    assert answer(head, alone) == pytest.approx(FLAT)
    without = Situation(BOTH.probs, np.array([0.0, 0.4]), BOTH.priors, FLAT)
    assert answer(head, without) == pytest.approx(answer(BAYES, without))


def test_gamma_is_the_exponent_of_the_weight() -> None:
    squared = Situation(BOTH.probs, BOTH.weights**2, BOTH.priors, FLAT)
    assert answer(replace(BAYES, gamma=np.array([2.0, 2.0]))) == pytest.approx(answer(BAYES, squared))


def test_the_temperature_depends_on_which_are_there() -> None:
    head = replace(BAYES, log_temperature=np.log([1.0, 4.0, 2.0]))
    halved = Situation(BOTH.probs, BOTH.weights / 2, BOTH.priors, FLAT)
    assert answer(head) == pytest.approx(answer(BAYES, halved))
    alone = Situation(BOTH.probs, np.array([0.9, 0.0]), BOTH.priors, FLAT)
    assert answer(head, alone) == pytest.approx(answer(BAYES, alone))
    other = Situation(BOTH.probs, np.array([0.0, 0.8]), BOTH.priors, FLAT)
    quartered = Situation(BOTH.probs, np.array([0.0, 0.2]), BOTH.priors, FLAT)
    assert answer(head, other) == pytest.approx(answer(BAYES, quartered))


def test_who_quarrels_is_less_sure() -> None:
    head = replace(BAYES, quarrel=np.array([[0, 3.0], [3.0, 0]]))
    temperature = np.exp(3 * conflict(BOTH.probs, BOTH.weights))
    calmed = Situation(BOTH.probs, BOTH.weights / temperature, BOTH.priors, FLAT)
    assert answer(head) == pytest.approx(answer(BAYES, calmed))
    agreed = Situation(rows((0.6, 0.3, 0.1), (0.6, 0.3, 0.1)), BOTH.weights, rows(FLAT, FLAT), FLAT)
    assert answer(head, agreed) == pytest.approx(answer(BAYES, agreed))


def test_it_wants_all_its_modalities_and_labels() -> None:
    with pytest.raises(
        ValueError, match=r"learned takes a row for each of vision, audio and a column .* found 1 weights"
    ):
        answer(BAYES, BOTH.of([0]))
    with pytest.raises(ValueError, match="learned takes weights from 0 to 1"):
        answer(BAYES, Situation(BOTH.probs, np.array([2.0, 1.0]), BOTH.priors, FLAT))


def test_it_survives_a_file(tmp_path: Path) -> None:
    head = replace(BAYES, bias=np.arange(6.0).reshape(2, 3), quarrel=np.array([[0, 0.5], [0.5, 0]]))
    np.savez(tmp_path / "fusion.npz", allow_pickle=False, **head.arrays())
    again = read_learned(tmp_path / "fusion.npz")
    assert (again.modalities, again.labels) == (head.modalities, head.labels)
    assert answer(again).tolist() == answer(head).tolist()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"mix": np.zeros((2, 3))}, r"mix has the shape \(2, 3\); 2 modalities and 3 labels want \(2, 3, 3\)"),
        ({"bias": np.full((2, 3), np.nan)}, "bias holds values that are not finite"),
        ({"bias": np.full((2, 3), 101.0)}, "bias must be within ±100"),
        ({"bias": np.full((2, 3), "x")}, "bias must hold numbers; found <U1"),
        ({"gamma": np.array([1.0, 0.0])}, "gamma must be above 0"),
        ({"log_temperature": np.array([0.0, 9.0, 0.0])}, "log_temperature must be within ±5"),
        ({"quarrel": np.array([[0, 1.0], [0, 0]])}, "quarrel must be symmetric"),
        ({"quarrel": np.eye(2)}, "quarrel must be symmetric, with a diagonal of 0"),
        ({"labels": np.array(["a", "b", "a"])}, "labels must be different names"),
    ],
)
def test_a_head_that_does_not_fit_is_refused(
    tmp_path: Path, changed: dict[str, npt.NDArray[Any]], message: str
) -> None:
    np.savez(tmp_path / "fusion.npz", allow_pickle=False, **(BAYES.arrays() | changed))
    with pytest.raises(ValueError, match=f"fusion.npz: not a trained fusion head: {message}"):
        read_learned(tmp_path / "fusion.npz")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "No data left in file"),
        (b"PK\x03\x04 and no more", "not a zip file"),
        (b"\x80\x04 a pickle", "allow_pickle"),
        (None, "No such file"),
    ],
)
def test_a_file_that_is_none_is_named(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "fusion.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"fusion.npz: not a trained fusion head: .*{message}"):
        read_learned(path)


def test_a_file_with_objects_or_without_a_field_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "fusion.npz"
    np.savez(path, allow_pickle=True, **(BAYES.arrays() | {"labels": np.array(["a", "b", {}], dtype=object)}))
    with pytest.raises(ValueError, match="Object arrays cannot be loaded"):
        read_learned(path)
    np.savez(path, allow_pickle=False, labels=np.array(["a"]))
    with pytest.raises(
        ValueError, match="modalities, mix, bias, gamma, log_temperature, quarrel missing; found labels"
    ):
        read_learned(path)
