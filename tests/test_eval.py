"""`launch.py eval`: the real encoders on real items, and every way in which a table of labels can be faulty."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import soundfile
import soxr

import launch as program
from agent.process import DONE, WRONG
from agent.types import AUDIO_RATE_HZ, Modality
from engines.evaluation.dataset import DataError, read
from engines.evaluation.output import OutputError, write_json
from engines.evaluation.present import answers, room_tone
from engines.language import LanguageEncoder
from engines.models import ModelStore
from engines.voice import VoiceEncoder
from tests.faces import portrait, scene
from tests.outside import ROOT, launch
from tests.speech import say, store

LABELS = ("neutral", "happy", "sad", "angry", "fearful", "disgusted", "surprised")
KEYS = {"n", "answered", "accuracy", "uar", "recall", "macro_f1", "nll", "ece", "confusion", "ms_median"}
SECOND = 1_000_000_000


def table(folder: Path, *lines: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def measured(what: str, folder: Path, *words: str) -> dict[str, Any]:
    """What `eval` writes about the folder."""
    file = folder / "figures.json"
    code = program.main(["--log-level", "ERROR", "eval", what, "--data", str(folder), "--json", str(file), *words])
    assert code == DONE
    figures: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    assert figures.keys() >= KEYS
    assert list(folder.glob(".*")) == [], "no draft is left behind"
    return figures


def total(confusion: Mapping[str, Mapping[str, int]]) -> int:
    return sum(sum(row.values()) for row in confusion.values())


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Two smiles, one of them under a name beyond ASCII, and a wall."""
    folder = table(
        tmp_path / "pictures", "file,label,identity", "smile.png,happy,a", "Łódź/笑.jpg,happy,a", "wall.png,sad,b"
    )
    (folder / "Łódź").mkdir()
    cv2.imwrite(str(folder / "smile.png"), portrait())
    (folder / "Łódź" / "笑.jpg").write_bytes(cv2.imencode(".jpg", scene(face_px=150))[1].tobytes())
    cv2.imwrite(str(folder / "wall.png"), np.full((240, 320, 3), 90, np.uint8))
    return folder


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """Speech as a WAV, FLAC and Opus of different rates and channels, and silence."""
    folder = table(
        tmp_path / "recordings",
        "file,label",
        "a.wav,happy", "b.flac,sad", "c.opus,neutral", "silence.wav,angry",
    )  # fmt: skip
    words = say("I have never been to such a lovely place, and I do not want to leave.")
    stereo = np.stack([soxr.resample(words, AUDIO_RATE_HZ, 44_100)] * 2, axis=1)
    soundfile.write(folder / "a.wav", stereo, 44_100)
    soundfile.write(folder / "b.flac", words, AUDIO_RATE_HZ)
    soundfile.write(
        folder / "c.opus", soxr.resample(words, AUDIO_RATE_HZ, 48_000), 48_000, format="OGG", subtype="OPUS"
    )
    soundfile.write(folder / "silence.wav", np.zeros(AUDIO_RATE_HZ), AUDIO_RATE_HZ)
    return folder


def test_pictures(pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures = measured("vision", pictures)
    assert (figures["n"], figures["answered"]) == (3, pytest.approx(2 / 3))
    assert figures["confusion"]["happy"]["happy"] == 2
    assert figures["confusion"]["sad"]["none"] == 1, "a wall has no face"
    assert total(figures["confusion"]) == 3
    assert figures["recall"] == {"happy": 1, "sad": 0}
    assert figures["accuracy"] == pytest.approx(2 / 3), "what is not answered is wrong"
    assert figures["uar"] == 0.5
    assert figures["macro_f1"] == 0.5
    assert 0 < figures["nll"] < -math.log(0.5), "of the two that are answered"
    assert figures["ms_median"] > 0
    assert "arousal_auc" not in figures
    assert "none" in capsys.readouterr().out


def test_recordings(recordings: Path) -> None:
    figures = measured("audio", recordings)
    assert (figures["n"], figures["answered"]) == (4, 0.75)
    assert figures["confusion"]["angry"]["none"] == 1
    assert figures["arousal_auc"] in (0, 0.5, 1), "one that is aroused, two that are calm"
    assert 0 < figures["ms_per_second"] < figures["ms_median"]


def test_texts(tmp_path: Path) -> None:
    folder = table(
        tmp_path / "texts",
        "text,label,split",
        'I am so happy to see you!,happy,a', '"Oh no, this makes me so angry",angry,a', ",sad,a", "what?,surprised,b",
    )  # fmt: skip
    figures = measured("text", folder, "--split", "a")
    assert (figures["n"], figures["split"]) == (3, "a")
    assert figures["recall"] == {"happy": 1, "angry": 1, "sad": 0}
    assert figures["confusion"]["sad"] == dict.fromkeys(LABELS, 0) | {"none": 1}, "an empty text says nothing"
    assert measured("text", folder)["n"] == 4


def test_nothing_answered_is_null_in_json(tmp_path: Path) -> None:
    figures = measured("text", table(tmp_path / "texts", "text,label", "...,sad"))
    assert (figures["answered"], figures["accuracy"], figures["uar"], figures["macro_f1"]) == (0, 0, 0, 0)
    assert (figures["nll"], figures["ece"], figures["quality_auc"]) == (None, None, None)


def test_map_renames_and_leaves_out(tmp_path: Path) -> None:
    folder = table(
        tmp_path / "texts",
        "text,label",
        "I am so happy to see you!,joy", "so happy!,happiness", "I am so bored,boredom", "this makes me sad,sad",
    )  # fmt: skip
    figures = measured("text", folder, "--map", "joy=happy, happiness=happy,boredom=", "--set", "fusion.rule=max")
    assert (figures["n"], figures["left_out"]) == (3, 1)
    assert figures["recall"].keys() == {"happy", "sad"}


def test_labels_may_be_the_persons_own(tmp_path: Path) -> None:
    folder = table(tmp_path / "texts", "text,label", "I am so happy to see you!,joy", "this makes me sad,grief")
    own = 'agent.labels=["joy", "grief"]', 'encoders.text.labels={happy="joy", sad="grief"}'
    assert measured("text", folder, "--set", own[0], "--set", own[1])["recall"] == {"joy": 1, "grief": 1}


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([], "labels.csv, line 1: needs the columns label and file; found nothing"),
        (["file;label", "a;sad"], "needs the columns label and file; found file;label"),
        (["text,label", "a,sad"], "needs the columns label and file; found text, label"),
        (["file,label"], "has a header and no items"),
        (["file,label", "a.png,sad,b"], "line 2: 3 cells under 2 columns"),
        (
            ["file,label", "gone.png,sad", ",sad", "here,"],
            r"3 faults\n.*line 2: there is no file .*gone.png\n.*line 3: no file\n.*line 4: no label",
        ),
        (
            ["file,label", "here,sad", "here,joy", "here,Anger", "here,blue", "here,joy"],
            r"line 3: .*joy \(2\), Anger \(1\), blue \(1\).*--map joy=happy,Anger=angry,blue=…$",
        ),
    ],
)  # fmt: skip
def test_faults_of_the_table_are_named(tmp_path: Path, lines: Sequence[str], said: str) -> None:
    folder = table(tmp_path / "data", *lines)
    (folder / "here").touch()
    with pytest.raises(DataError, match=said):
        read(folder, Modality.VISION, labels=LABELS)


def test_many_faults_are_counted(tmp_path: Path) -> None:
    folder = table(tmp_path / "data", "file,label", *["gone,sad"] * 25)
    with pytest.raises(DataError, match=r"25 faults(\n.*){10}\n  and 15 more$"):
        read(folder, Modality.VISION, labels=LABELS)


def test_a_split_that_is_not_there(tmp_path: Path) -> None:
    folder = table(tmp_path / "data", "text,label,split", "a,sad,train", "b,sad,val", "c,sad,train")
    with pytest.raises(DataError, match=r"--split test: no item is in it; there are train \(2\), val \(1\)"):
        read(folder, Modality.TEXT, labels=LABELS, split="test")
    with pytest.raises(DataError, match="--split test: it has no column split; found text, label"):
        read(table(folder, "text,label", "a,sad"), Modality.TEXT, labels=LABELS, split="test")


def test_a_map_to_what_is_no_label(tmp_path: Path) -> None:
    folder = table(tmp_path / "data", "text,label", "a,joy")
    with pytest.raises(DataError, match="--map: hapy: no label of the agent's, which are neutral, happy"):
        read(folder, Modality.TEXT, labels=LABELS, renamed={"joy": "hapy"})
    with pytest.raises(DataError, match="all 1 items are left out"):
        read(folder, Modality.TEXT, labels=LABELS, renamed={"joy": ""})


def test_a_table_in_another_encoding_or_none_at_all(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"labels\.csv: there is none"):
        read(tmp_path, Modality.TEXT, labels=LABELS)
    (tmp_path / "labels.csv").write_bytes("text,label\nGrüße,happy\n".encode("latin-1"))
    with pytest.raises(DataError, match="cannot be read as CSV in UTF-8"):
        read(tmp_path, Modality.TEXT, labels=LABELS)
    (tmp_path / "labels.csv").write_bytes('\ufefftext,label\r\n"two\r\nlines",happy\r\n\r\nGrüße, sad\r\n'.encode())
    items = read(tmp_path, Modality.TEXT, labels=LABELS).items
    assert [(item.line, item.what, item.label) for item in items] == [(3, "two\r\nlines", "happy"), (5, "Grüße", "sad")]


@pytest.mark.parametrize(("what", "name"), [("vision", "torn.png"), ("audio", "torn.wav")])
def test_a_file_that_cannot_be_read_ends_it_with_its_line(
    what: str, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = table(tmp_path / "data", "file,label", f"{name},sad")
    (folder / name).write_bytes(b"RIFF, but not quite")
    words = ["eval", what, "--data", str(folder), "--json", str(folder / "out.json"), "--log-level", "ERROR"]
    assert program.main(words) == WRONG
    assert f"labels.csv, line 2: {name} cannot be read: " in capsys.readouterr().err
    assert not (folder / "out.json").exists()


async def test_usage_errors(tmp_path: Path) -> None:
    folder = table(tmp_path / "data", "text,label", "a,joy")
    code, output = await launch("eval", "text", "--data", str(folder), "--log-level", "ERROR")
    assert code == 2
    assert output.endswith("--map joy=happy\n")
    for word in ("joy", "joy=happy,joy=sad", ""):
        code, output = await launch("eval", "text", "--data", str(folder), f"--map={word}")
        assert code == 2
        assert "argument --map: must be from=to,… with each label named once" in output
    code, output = await launch("eval", "text", "--data", str(folder), "--json", str(tmp_path / "no" / "x.json"))
    assert code == 2
    assert output.startswith(f"{tmp_path}/no/x.json cannot be written: {tmp_path}/no is no folder")
    code, output = await launch(
        "eval",
        "text",
        "--data",
        str(folder),
        "--set",
        "encoders.text.enabled=false",
        "--map=joy=happy",
        "--log-level",
        "ERROR",
    )
    assert (code, output) == (2, "encoders.text is switched off; add --set encoders.text.enabled=true\n")


def test_json_is_whole_or_not_there(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    write_json({"n": 1}, file)
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json({"n": math.nan}, file)
    assert json.loads(file.read_text()) == {"n": 1}
    with pytest.raises(OutputError, match="cannot be written: Not a directory"):
        write_json({"n": 2}, file / "within.json")
    assert list(tmp_path.iterdir()) == [file]


def test_an_interrupt_leaves_no_json_and_is_no_success(tmp_path: Path) -> None:
    texts = [f"number {i} makes me happy,happy" for i in range(100_000)]
    folder = table(tmp_path / "data", "text,label", *texts)
    words = ("eval", "text", "--data", str(folder), "--json", str(tmp_path / "out.json"))
    with subprocess.Popen(
        [sys.executable, "launch.py", *words],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        # Where the tests run in the background of a shell, interrupts are ignored, and that would be handed down.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        assert process.stderr
        for line in process.stderr:
            if "onnxruntime" in line:  # it has begun
                process.send_signal(signal.SIGINT)
                break
        rest = process.stderr.read()
    assert process.returncode == 1
    assert rest.endswith("eval: interrupted; nothing is written\n")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_it_needs_no_torch_and_nothing_of_training(tmp_path: Path) -> None:
    folder = table(tmp_path / "data", "text,label", "how lovely,happy")
    script = (
        f"import sys, launch; code = launch.main(['eval', 'text', '--data', {str(folder)!r}, '--log-level', 'ERROR'])\n"
        "heavy = {'torch', 'torchaudio', 'transformers', 'sklearn', 'engines.training'} & set(sys.modules)\n"
        "sys.exit(heavy or code)"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def voice() -> VoiceEncoder:
    return VoiceEncoder.open(store(), labels=LABELS, backend="onnxruntime")


def test_recordings_know_nothing_of_one_another_unless_one_speaker_made_them(
    voice: VoiceEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    soft, loud = say("This is a long day."), say("What are you doing here? Get out!", pitch=90)
    names = {"soft.wav": soft, "loud.wav": loud}
    folder = table(tmp_path / "data", "file,label,speaker", "loud.wav,angry,", "soft.wav,sad,", "loud.wav,angry,")
    for name, pcm in names.items():
        soundfile.write(folder / name, pcm, AUDIO_RATE_HZ)
    data = read(folder, Modality.AUDIO, labels=LABELS)
    forgotten: list[str] = []

    def forget(source: str) -> None:
        forgotten.append(source)
        VoiceEncoder.forget(voice, source)

    monkeypatch.setattr(voice, "forget", forget)
    first, other, again = answers(voice, data, span_ns=3 * SECOND, hop_ns=SECOND // 2)
    assert len(set(forgotten)) == 3, "nothing is kept of recordings that are over"
    assert first.probs is not None
    assert again.probs is not None
    assert other.probs is not None
    np.testing.assert_array_equal(first.probs.argmax(), again.probs.argmax())
    assert np.abs(first.probs - again.probs).max() < 0.02, "only the noise of the room differs"
    assert np.abs(first.probs - other.probs).max() > 0.02


def test_one_speakers_recordings_share_a_stream_but_no_window(voice: VoiceEncoder, tmp_path: Path) -> None:
    folder = table(
        tmp_path / "data",
        "file,label,speaker",
        "a.wav,sad,eve",
        "b.wav,sad,bob",
        "silence.wav,sad,eve",
        "a.wav,sad,eve",
    )
    soundfile.write(folder / "a.wav", say("This is a long day."), AUDIO_RATE_HZ)
    soundfile.write(folder / "b.wav", say("It is a pity, that is all."), AUDIO_RATE_HZ)
    soundfile.write(folder / "silence.wav", np.zeros(AUDIO_RATE_HZ), AUDIO_RATE_HZ)
    data = read(folder, Modality.AUDIO, labels=LABELS)
    found = list(answers(voice, data, span_ns=3 * SECOND, hop_ns=SECOND // 2))
    assert [answer.item.line for answer in found] == [2, 4, 5, 3], "each speaker's in order"
    assert found[1].probs is None, "what was said before the silence is in none of its windows"
    assert found[0].probs is not None
    assert found[2].probs is not None


def test_recordings_of_every_length(voice: VoiceEncoder, tmp_path: Path) -> None:
    lengths = (0, 1, 319, 320, 8_000, 8_001)
    folder = table(tmp_path / "data", "file,label", *[f"{n}.wav,sad" for n in lengths])
    for n in lengths:
        soundfile.write(folder / f"{n}.wav", np.zeros(n), AUDIO_RATE_HZ)
    data = read(folder, Modality.AUDIO, labels=LABELS)
    found = list(answers(voice, data, span_ns=3 * SECOND, hop_ns=SECOND // 2))
    assert [answer.probs for answer in found] == [None] * len(lengths)
    assert [answer.stream_ns / SECOND for answer in found] == [0, 0.5, 0.5, 0.5, 0.5, 1.0]


def test_room_tone_is_as_loud_as_the_quietest_part() -> None:
    rng = np.random.default_rng(0)
    loud, quiet = (level * rng.standard_normal(AUDIO_RATE_HZ).astype(np.float32) for level in (0.1, 0.01))
    assert room_tone(np.concatenate([loud, quiet]), 16_000, seed=1).std() == pytest.approx(0.01, rel=0.1)
    assert not room_tone(np.zeros(5_000, np.float32), 100, seed=1).any()
    assert not room_tone(np.zeros(3, np.float32), 100, seed=1).any()
    assert not room_tone(np.full(5_000, np.nan, np.float32), 100, seed=1).any()


def test_a_text_is_answered_as_by_itself(tmp_path: Path) -> None:
    folder = table(tmp_path / "data", "text,label", "how lovely,happy", "this is awful,sad", "how lovely,happy")
    encoder = LanguageEncoder.open(ModelStore(), labels=LABELS, backend="onnxruntime")
    data = read(folder, Modality.TEXT, labels=LABELS)
    first, other, again = answers(encoder, data, span_ns=6 * SECOND, hop_ns=SECOND // 2)
    encoder.close()
    assert first.probs is not None
    assert other.probs is not None
    assert again.probs is not None
    np.testing.assert_allclose(first.probs, again.probs, rtol=1e-5)
    assert np.abs(first.probs - other.probs).max() > 0.1
