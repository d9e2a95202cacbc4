"""What the training of fusion is given: of everybody what an encoder says that never heard him."""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile

from agent.config import Config
from agent.types import AUDIO_RATE_HZ
from engines.evaluation.pool import Pool
from engines.speaker import SpeakerHead
from engines.training import fusion_parts
from engines.training.speakers import Corpus, fit
from engines.training.voice import HELD_OUT
from tests.speech import say, store

SPEAKERS = {"A": "en-gb", "B": "en-us", "C": "en-gb-scotland", HELD_OUT[0]: "en-gb"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four speakers, of whom one is kept for measuring, say the same high and low."""
    store()
    with (tmp_path / "labels.csv").open("w", encoding="utf-8", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["file", "label", "speaker"])
        for speaker, voice in SPEAKERS.items():
            for label, pitch in (("happy", 85), ("sad", 15)):
                for n, words in enumerate(("I have been to the market.", "There is a letter for you.")):
                    file = f"{speaker}-{label}-{n}.wav"
                    soundfile.write(tmp_path / file, say(words, voice=voice, pitch=pitch), AUDIO_RATE_HZ)
                    table.writerow([file, label, speaker])
    return tmp_path


def test_each_voice_is_read_by_who_never_heard_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trained_on: list[list[str]] = []

    def noted(corpus: Corpus, speakers: Sequence[str]) -> SpeakerHead:
        trained_on.append(sorted(speakers))
        return fit(corpus, speakers)

    monkeypatch.setattr(fusion_parts, "fit", noted)
    monkeypatch.setitem(sys.modules, "torchaudio", None)
    said: list[str] = []

    def gathered() -> list[Pool]:
        return fusion_parts.voices(Config(), folder, items=5, grades=(0, 3), cache=folder / "cache", say=said.append)

    clean, noisy = gathered()
    assert trained_on == [["B", "C"], ["A", "C"], ["A", "B"]]
    assert said.pop(0).startswith("training: no far speech is taught: torchaudio does not load")
    assert [line.split(":")[0] for line in said] == [f"voices, speaker {n} of 3" for n in (1, 2, 3)]
    labels = Config().agent.labels
    assert sorted(labels[k] for k in clean.y.tolist()) == ["happy"] * 5 + ["sad"] * 5
    assert clean.answered.all()
    assert clean.quality.mean() > noisy.quality.mean()
    again, _ = gathered()
    assert len(trained_on) == 3, "what was kept is not made again"
    np.testing.assert_array_equal(again.probs, clean.probs)
