"""Training of the voice head: it finds what is the label's and what is the speaker's, and goes on where it was."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from agent.types import AUDIO_RATE_HZ
from engines.evaluation.metrics import report
from engines.speaker import SpeakerHead
from engines.training.speakers import Corpus, additive, fit, stream
from engines.training.utterances import NEAR, PLAIN, Features, gather, read_rows, with_noise
from engines.training.voice import main
from tests.speech import say, store

LABELS = ("happy", "neutral", "sad")


def corpus(*, speakers: int = 6, each: int = 30, apart: float = 6.0) -> Corpus:
    """Labels that differ in three of eight features, by less than speakers do."""
    rng = np.random.default_rng(1)
    y = np.tile(np.repeat(np.arange(3), each), 2 * speakers)
    who = np.repeat(np.arange(speakers), 6 * each)
    way = np.tile(np.repeat(NEAR, 3 * each), speakers)
    voices = apart * rng.normal(size=(speakers, 8))
    x = (5 * np.eye(3, 8)[y] + voices[who] + rng.normal(size=(len(y), 8))).astype(np.float32)
    names = np.array([f"s{i}" for i in who])
    return Corpus.of(Features(x, np.arange(len(y)), way), y.astype(np.intp), names, LABELS)


def test_parts_of_label_and_speaker_are_told_apart_though_a_cell_is_empty() -> None:
    rng = np.random.default_rng(2)
    of_label, of_speaker = rng.normal(size=(3, 4)), rng.normal(size=(5, 4))
    of_speaker -= of_speaker.mean(axis=0)
    means, counts = of_label + of_speaker[:, np.newaxis], np.full((5, 3), 7.0)
    means[2, 1], counts[2, 1] = 0, 0
    found = additive(means, counts)
    np.testing.assert_allclose(found[0], of_label, atol=1e-6)
    np.testing.assert_allclose(found[1], of_speaker, atol=1e-6)


def test_a_speaker_who_was_left_out_is_read_better_as_he_goes_on() -> None:
    data = corpus()
    head = fit(data, ["s0", "s1", "s2", "s3", "s4"])
    rows = np.flatnonzero(data.rows("s5", PLAIN))
    order = np.random.default_rng(0).permutation(rows)
    z, y = head.place(data.found.x[order]), data.y[order]
    fresh = np.array([head.posterior(point, head.stranger()) for point in z])
    assert report(y, stream(head, z)).uar > report(y, fresh).uar + 0.05
    assert report(y[30:], stream(head, z)[30:]).uar > 0.9


def test_the_same_data_give_the_same_head(tmp_path: Path) -> None:
    one, other = (fit(corpus(), ["s0", "s1", "s2", "s3"]) for _ in range(2))
    one.save(tmp_path / "one.npz")
    other.save(tmp_path / "other.npz")
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "other.npz").read_bytes()


def test_noise_is_as_loud_as_asked() -> None:
    rng = np.random.default_rng(3)
    voice = say("Good morning.")
    noise = with_noise(voice, 12, rng) - voice
    assert 10 * np.log10(np.mean(voice**2) / np.mean(noise**2)) == pytest.approx(12, abs=0.1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three voices that say the same high and low."""
    store()
    path = tmp_path_factory.mktemp("own")
    with (path / "labels.csv").open("w", encoding="utf-8", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["file", "label", "speaker"])
        for voice in ("en-gb", "en-us", "en-gb-scotland"):
            for label, pitch in (("happy", 85), ("sad", 15)):
                for n, words in enumerate(("I have been to the market.", "There is a letter for you.")):
                    file = f"{voice}-{label}-{n}.wav"
                    soundfile.write(path / file, say(words, voice=voice, pitch=pitch), AUDIO_RATE_HZ)
                    table.writerow([file, label, voice])
    return path


@pytest.fixture
def no_torchaudio(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchaudio", None)


@pytest.mark.usefixtures("no_torchaudio")
def test_from_a_folder_to_a_head_without_torchaudio(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--data", str(folder), "--cache", str(tmp_path / "cache"), "--out", str(tmp_path)]
    assert main([*arguments, "--report", str(tmp_path)]) == 0
    head = SpeakerHead.load(tmp_path / "voice.npz")
    assert head.labels == ("happy", "sad")
    figures = json.loads((tmp_path / "voice.json").read_text(encoding="utf-8"))
    assert figures[PLAIN]["n"] == 3 * 12
    assert figures["taught"] == list(NEAR)
    said = capsys.readouterr().out.splitlines()[0]
    assert said.startswith("training: no far speech is taught: torchaudio does not load")
    assert "pip install 'torch==" in said
    assert figures["trained on"] == ["en-gb", "en-gb-scotland", "en-us"]


@pytest.mark.usefixtures("no_torchaudio")
def test_a_check_without_torchaudio_says_what_to_install(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--data", str(folder), "--check"]) == 2
    assert "pip install 'torch==" in capsys.readouterr().out


def test_features_are_made_once_and_work_goes_on_where_it_was(folder: Path, tmp_path: Path) -> None:
    files = [row.file for row in read_rows(folder)]
    first = gather(folder, files, tmp_path)
    kept = sorted(tmp_path.glob("*.npz"))
    assert len(kept) == len(NEAR)
    kept[1].unlink()
    before = kept[0].stat().st_mtime_ns
    again = gather(folder, files, tmp_path)
    np.testing.assert_array_equal(first.x, again.x)
    assert kept[0].stat().st_mtime_ns == before


def test_a_table_that_cannot_be_used_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "labels.csv").write_text("file,emotion\na.wav,sad\n", encoding="utf-8")
    assert main(["--data", str(tmp_path)]) == 2
    assert "no column label" in capsys.readouterr().out
    (tmp_path / "labels.csv").write_text("file,label\na.wav,sad\nb.wav,happy\n", encoding="utf-8")
    assert [row.speaker for row in read_rows(tmp_path)] == ["part 0", "part 1"]


@pytest.mark.usefixtures("no_torchaudio")
def test_a_label_that_too_few_say_is_told(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = (folder / "labels.csv").read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if "scotland-sad" not in line]
    for wave in folder.glob("*.wav"):
        (tmp_path / wave.name).symlink_to(wave)
    (tmp_path / "labels.csv").write_text("\n".join(kept) + "\n", encoding="utf-8")
    assert main(["--data", str(tmp_path), "--cache", str(tmp_path / "cache"), "--out", str(tmp_path)]) == 2
    assert "from at least 3 speakers" in (said := capsys.readouterr().out)
    assert "there are: sad 2" in said
    assert not (tmp_path / "voice.npz").exists()
