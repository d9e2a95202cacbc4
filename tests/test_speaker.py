"""Getting to know a voice: by Bayes' rule, from the past alone, and back again."""

from pathlib import Path

import numpy as np
import pytest

from agent.fusion.arrays import HeadError
from agent.types import F64
from engines.evaluation.metrics import Ints
from engines.speaker import FADE_S, SpeakerHead

LABELS = ("neutral", "happy", "sad")
CENTRES = np.array([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]])


def head(*, between: float = 4.0, own: float = 0.5, change: float = 0.01) -> SpeakerHead:
    """Labels four deviations apart; voices that differ by as much."""
    return SpeakerHead(
        mean=np.array([1.0, 2.0]),
        weight=np.eye(2),
        centres=CENTRES,
        within=np.eye(2),
        between=between * np.eye(2),
        own=own * np.eye(2),
        trust=1.0,
        change=change,
        temperature=1.0,
        aroused=np.array([False, True, False]),
        prior=np.full(3, 1 / 3),
        labels=LABELS,
    )


def speaker(rng: np.random.Generator, n: int) -> tuple[Ints, F64]:
    """Labels (n,) and coordinates (n, 2) of a voice drawn from the model of `head`."""
    shifts = rng.normal(size=2) * 2 + rng.normal(size=(3, 2)) * np.sqrt(0.5)
    y = rng.integers(3, size=n).astype(np.intp)
    return y, CENTRES[y] + shifts[y] + rng.normal(size=(n, 2))


def stream(model: SpeakerHead, z: F64) -> F64:
    voice, probs = model.stranger(), []
    for point in z:
        probs.append(model.posterior(point, voice))
        voice = model.learn(point, voice)
    return np.array(probs)


def test_of_a_stranger_it_is_bayes_rule() -> None:
    model, z = head(), np.array([1.5, 0.5])
    squares = np.square(z - CENTRES).sum(axis=1) / (1 + 4 + 0.5)
    expected = np.exp(-squares / 2)
    np.testing.assert_allclose(model.posterior(z, model.stranger()), expected / expected.sum(), rtol=1e-9)


def test_with_one_label_it_is_the_posterior_of_a_gaussian() -> None:
    model = head(change=1e-12)
    model = SpeakerHead(**{f: getattr(model, f) for f in SpeakerHead.__dataclass_fields__} | {"centres": CENTRES * 1e3})
    z = np.array([[1.0, -1.0], [2.0, 0.0], [0.0, 1.0]])
    voice = model.stranger()
    for point in z:
        voice = model.learn(point, voice)
    mean, spread = voice.mean, voice.covariance
    np.testing.assert_allclose(mean[:2], z.sum(axis=0) * 4.5 / (3 * 4.5 + 1), atol=1e-6)
    np.testing.assert_allclose(spread[0, 0], 1 / (1 / 4.5 + 3), rtol=1e-6)
    np.testing.assert_allclose(mean[2:4], mean[:2] * 4 / 4.5, atol=1e-6)
    least = 4 + 0.5 - 16 / 4.5
    assert spread[2, 2] > least, "one label, however often, leaves another one uncertain"


def test_a_voice_is_read_better_the_longer_it_is_heard() -> None:
    rng, model = np.random.default_rng(1), head()
    right, fresh = [], []
    for _ in range(60):
        y, z = speaker(rng, 60)
        right.append(stream(model, z).argmax(axis=1) == y)
        fresh.append(np.array([model.posterior(point, model.stranger()) for point in z]).argmax(axis=1) == y)
    early, late, never = np.mean(right, axis=0)[:5].mean(), np.mean(right, axis=0)[30:].mean(), np.mean(fresh)
    assert late > early + 0.05
    assert late > never + 0.1


def test_somebody_else_is_noticed() -> None:
    rng, model = np.random.default_rng(3), head()
    far = np.array([12.0, -12.0])
    voice = model.stranger()
    for point in CENTRES[rng.integers(3, size=40)] + far + rng.normal(size=(40, 2)):
        voice = model.learn(point, voice)
    assert np.abs(voice.mean.reshape(3, 2) - far).max() < 3
    voice = model.learn(CENTRES[1] + 0.1, voice)
    assert np.abs(voice.mean).max() < 3


def test_what_is_known_fades() -> None:
    model = head()
    voice = model.learn(np.array([3.0, 3.0]), model.stranger())
    same, later, gone = (model.faded(voice, seconds) for seconds in (0, FADE_S, 50 * FADE_S))
    np.testing.assert_allclose(same.covariance, voice.covariance)
    np.testing.assert_allclose(later.mean, voice.mean / np.e)
    np.testing.assert_allclose(gone.covariance, model.stranger().covariance, atol=1e-9)


def test_less_of_an_utterance_tells_less() -> None:
    model, z = head(), np.array([3.0, 3.0])
    whole, part = (model.learn(z, model.stranger(), share=share) for share in (1.0, 0.2))
    assert 0 < np.linalg.norm(part.mean) < 0.9 * np.linalg.norm(whole.mean)


def test_arousal_is_the_mass_of_its_labels() -> None:
    assert head().arousal(np.array([0.2, 0.7, 0.1])) == pytest.approx(0.7)


def test_it_is_kept_in_a_file(tmp_path: Path) -> None:
    model, path = head(), tmp_path / "voice.npz"
    model.save(path)
    again = SpeakerHead.load(path)
    x = np.array([[1.0, 5.0]])
    np.testing.assert_array_equal(again.place(x), model.place(x))
    point = model.place(x)[0]
    np.testing.assert_array_equal(again.posterior(point, again.stranger()), model.posterior(point, model.stranger()))
    assert again.labels == LABELS


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    with pytest.raises(HeadError, match=r"features of shape \(N, 2\), was given \(1, 3\)"):
        head().place(np.zeros((1, 3)))
    path = tmp_path / "broken.npz"
    path.write_bytes(b"no such thing")
    with pytest.raises(HeadError, match=r"broken\.npz: not a head"):
        SpeakerHead.load(path)
