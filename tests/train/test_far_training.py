"""Training on far speech, and the features of voices against torchaudio's. Needs a torchaudio that loads."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soxr
import torch
import torchaudio

from agent.config import Config
from agent.types import AUDIO_RATE_HZ, F32
from engines.speaker import SpeakerHead
from engines.training import fusion_parts, rooms
from engines.training.reference import compare
from engines.training.speakers import Corpus, fit
from engines.training.utterances import ELSEWHERE, FAR, NEAR, PLAIN, TAUGHT, with_noise
from engines.training.voice import main
from sensors.resample import Resampler
from tests.speech import say
from tests.train.test_voice_training import folder

__all__ = ["folder"]


def energy_db(response: F32) -> F32:
    """What is left of its energy after each sample (Schroeder 1965), in dB below all of it. (R,)"""
    left = np.cumsum(np.square(response[::-1], dtype=np.float64))[::-1]
    return np.asarray(10 * np.log10(left / left[0] + 1e-12), np.float32)


def time_to_decay(response: F32) -> float:
    """Seconds in which it would fall by 60 dB, from -5 and -25 dB (ISO 3382, T20)."""
    level = energy_db(response)
    return 3 * float(np.argmax(level < -25) - np.argmax(level < -5)) / AUDIO_RATE_HZ


def test_features_are_torchaudios() -> None:
    found = compare([say("Good morning to you all."), say("Where is it?", pitch=90) * np.float32(0.01)])
    assert len(found) == 3
    assert all(difference.holds for difference in found), "; ".join(map(str, found))


def test_a_feature_that_differs_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engines.training.reference.log_mel", lambda pcm: np.zeros((80, len(pcm) // 160), np.float32))
    assert [difference.holds for difference in compare([say("Good morning.")])] == [True, False, True]


def test_a_stream_is_resampled_as_torchaudio_does() -> None:
    voice = soxr.resample(say("Good morning to you all."), AUDIO_RATE_HZ, 44_100)
    resampler = Resampler(44_100)
    pieces = [resampler.feed(voice[i : i + 441]).pcm for i in range(0, len(voice), 441)]
    ours = np.concatenate([*pieces, resampler.feed(voice[:0], last=True).pcm])
    sharp = {"lowpass_filter_width": 64, "rolloff": 0.9476, "resampling_method": "sinc_interp_kaiser", "beta": 14.77}
    theirs = torchaudio.functional.resample(torch.from_numpy(voice), 44_100, AUDIO_RATE_HZ, **sharp).numpy()
    n = min(len(ours), len(theirs))
    assert abs(len(ours) - len(theirs)) <= 1
    assert np.abs(ours[:n] - theirs[:n]).max() < 0.02 * np.abs(theirs).max()


def test_noise_is_added_as_torchaudio_does() -> None:
    voice = say("Good morning.")
    noisy = with_noise(voice, 12, np.random.default_rng(3))
    theirs = torchaudio.functional.add_noise(*map(torch.from_numpy, (voice, noisy - voice)), torch.tensor(12.0))
    np.testing.assert_allclose(noisy, theirs.numpy(), atol=1e-5)


def test_far_speech_is_the_voice_and_its_echo() -> None:
    voice, response = say("Good morning."), np.zeros(100, np.float32)
    response[[0, 99]] = 1, 0.5
    heard = rooms.far(voice, response)
    assert len(heard) == len(voice) + 99
    np.testing.assert_allclose(heard[: len(voice)][:99], voice[:99], atol=1e-5)
    np.testing.assert_allclose(heard[99 : len(voice)], voice[99:] + 0.5 * voice[:-99], atol=1e-5)


def test_rooms_to_learn_from_decay_as_they_should() -> None:
    rng = np.random.default_rng(0)
    found = [rooms.decaying(rng) for _ in range(40)]
    for response in found:
        length = len(response) / AUDIO_RATE_HZ  # that of a decay by 60 dB
        echo = response.copy()
        echo[0] = 0
        assert 0.2 <= length <= 0.8
        assert response[0] == 1
        assert not response[1:16].any(), "no echo is back within a millisecond"
        assert time_to_decay(echo) == pytest.approx(length, rel=0.25)
        assert -10 < 10 * np.log10(np.square(echo).sum()) < 8.1
    assert len({len(response) for response in found}) > 30


def test_rooms_to_measure_in_are_others() -> None:
    found = [rooms.shoebox(number) for number in range(4)]
    for response in found:
        assert np.abs(response).max() == 1
        assert 0.2 < time_to_decay(response) < 1.2
        assert response[: np.abs(response).argmax()].max() < 0.2, "the voice itself comes first"
    assert not np.array_equal(found[0], found[1])


def test_a_wall_gives_back_one_image() -> None:
    """In a room so large that nothing but the floor is near, the response is the voice and one echo of it."""
    away, bounced = rooms.images(3.0, 1.0, 1.5, reach_m=3.0)
    assert sorted(zip(away.tolist(), bounced.tolist(), strict=True)) == [(0.5, 0), (2.5, 1)]


def test_far_speech_is_taught_and_measured(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--data", str(folder), "--cache", str(tmp_path / "cache"), "--out", str(tmp_path)]
    assert main([*arguments, "--report", str(tmp_path)]) == 0
    figures = json.loads((tmp_path / "voice.json").read_text(encoding="utf-8"))
    assert figures["taught"] == list(TAUGHT)
    assert FAR in figures["taught"]
    assert figures[ELSEWHERE]["n"] == figures[PLAIN]["n"] == 3 * 12
    assert len(figures["features against torchaudio's"]) == 3
    capsys.readouterr()
    assert main([*arguments, "--check"]) == 0
    said = capsys.readouterr().out
    assert said.count(", allowed ") == 3
    assert "mel filters, as a share of the highest value: differs by " in said


def test_fusion_learns_from_voices_that_were_taught_far_speech_too(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taught: list[set[str]] = []

    def noted(corpus: Corpus, speakers: Sequence[str]) -> SpeakerHead:
        taught.append({way for _, way in corpus.sums})
        return fit(corpus, speakers)

    def gather() -> None:
        fusion_parts.voices(Config(), folder, items=2, grades=(0,), cache=tmp_path, say=lambda words: None)

    monkeypatch.setattr(fusion_parts, "fit", noted)
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "torchaudio", None)
        gather()
    assert taught == [set(NEAR)] * 3
    gather()
    assert taught[3:] == [set(TAUGHT)] * 3, "what was kept without far speech is not taken"
    gather()
    assert len(taught) == 6
