"""How familiar an input is: its measure on made-up features, and what it says of real faces and voices."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from agent.fusion.arrays import HeadError
from agent.types import U8
from engines.face import FaceEncoder
from engines.familiarity import BEND, Familiarity
from engines.training.familiar import DIRECTIONS, fit
from tests.faces import EYES, portrait, shot, store

LABELS = ("neutral", "happy", "sad", "angry", "fearful", "disgusted", "surprised")


def ordinary(n: int, *, seed: int) -> np.ndarray:
    """(n, 60): in as many directions as are kept they differ much, in all others a little."""
    rng = np.random.default_rng(seed)
    directions = np.random.default_rng(0).standard_normal((DIRECTIONS, 60))
    return 3 + rng.standard_normal((n, DIRECTIONS)) @ directions + 0.1 * rng.standard_normal((n, 60))


@pytest.fixture(scope="module")
def known() -> Familiarity:
    return fit(ordinary(500, seed=1), np.arange(500) % 50)


def test_what_is_ordinary_is_familiar_and_what_lies_outside_its_directions_is_not(known: Familiarity) -> None:
    own = ordinary(200, seed=2)
    assert np.median(known.strangeness(own)) == pytest.approx(1, abs=0.1)
    assert known.of(own).min() > 0.7
    moved = own + 5 * known.basis[0] * known.scale  # as ordinary ones differ, and further than they do
    np.testing.assert_allclose(known.strangeness(moved), known.strangeness(own), rtol=1e-3)
    outside = own + 3 * np.random.default_rng(3).standard_normal(own.shape)
    assert known.of(outside).max() < 0.1


def test_with_so_much_of_the_usual_it_is_half_familiar() -> None:
    plain = Familiarity(np.zeros(3), np.ones(3), np.array([[1.0, 0, 0]]), 1.0)
    assert plain.of(np.array([[9.0, (3 * BEND) ** 0.5, 0.0]])).tolist() == pytest.approx([0.5])


def test_it_is_read_as_it_was_written(known: Familiarity, tmp_path: Path) -> None:
    known.save(tmp_path / "known.npz")
    again = Familiarity.load(tmp_path / "known.npz")
    rows = ordinary(20, seed=4)
    np.testing.assert_allclose(again.strangeness(rows), known.strangeness(rows), rtol=0.1)  # half precision
    with pytest.raises(HeadError, match=r"takes features of shape \(N, 60\), was given \(20, 59\)"):
        again.of(rows[:, 1:])
    (tmp_path / "other.npz").write_bytes(b"no archive")
    with pytest.raises(HeadError, match=r"other.npz: not as `python -m engines.training quality` writes"):
        Familiarity.load(tmp_path / "other.npz")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"scale": np.ones(2)}, r"scale has the shape \(2,\); 3 features want \(3,\)"),
        ({"scale": np.zeros(3)}, "must be above 0"),
        ({"usual": 0.0}, "must be above 0"),
        ({"mean": np.full(3, np.nan)}, "not finite"),
    ],
)
def test_faulty_ones_are_refused(change: dict[str, object], said: str) -> None:
    whole: dict[str, object] = {"mean": np.zeros(3), "scale": np.ones(3), "basis": np.eye(3)[:1], "usual": 1.0}
    with pytest.raises(HeadError, match=said):
        Familiarity(**{**whole, **change})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def encoder() -> Iterator[FaceEncoder]:
    encoder = FaceEncoder.open(store(), labels=LABELS, backend="onnxruntime")
    yield encoder
    encoder.close()


def quality(encoder: FaceEncoder, frame: U8, *, at_s: float) -> float:
    evidence = encoder.encode([shot(frame, at_s=at_s)], round(at_s * 1e9)).evidence
    assert evidence is not None
    return evidence.quality


def test_a_face_of_which_the_lower_half_is_hidden_has_less_quality(encoder: FaceEncoder) -> None:
    hidden = portrait()
    (left, eyes), (right, _) = EYES
    below = round(eyes + 0.5 * (right - left))
    hidden[below:] = 110
    assert quality(encoder, hidden, at_s=1) < 0.8 * quality(encoder, portrait(), at_s=2)
