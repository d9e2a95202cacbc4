"""What the text encoder is trained with, without the training: data, rewording, small weights, calibration."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engines.convert import safetensors
from engines.convert.bert import BLOCK, Words
from engines.convert.graph import ConversionError
from engines.evaluation.metrics import ece
from engines.training.calibrate import calibrate
from engines.training.comments import GROUPS, LABELS, MIXED, read
from engines.training.language import main
from engines.training.rewording import NAMES, deny, rename

FINE = " ".join(GROUPS.values()).split()


def goemotions(folder: Path, *lines: str) -> Path:
    (folder / "labels.txt").write_text("\n".join(FINE))
    for split in ("train", "dev", "test"):
        (folder / f"{split}.tsv").write_text("".join(f"{line}\tid\n" for line in lines))
    return folder


def test_goemotions_is_read_with_its_fine_labels_and_their_groups(tmp_path: Path) -> None:
    love, joy, anger = (FINE.index(name) for name in ("love", "joy", "anger"))
    lines = f"so good\t{love},{joy}", f"mixed\t{love},{anger}", f"grr 😡\t{anger}", f"...\t{anger}"
    classes, splits = read(goemotions(tmp_path, *lines))
    train = splits["train"]
    assert train.texts == ("so good", "mixed", "grr angry"), "a text that says nothing is left out"
    assert [LABELS[k] if k != MIXED else None for k in train.y] == ["happy", None, "angry"]
    np.testing.assert_array_equal(train.targets.sum(axis=1), 1)
    assert train.targets[0, love] == train.targets[0, joy] == 0.5
    np.testing.assert_array_equal(
        (train.targets @ classes.sums)[1, [LABELS.index("happy"), LABELS.index("angry")]], 0.5
    )
    assert train.single().texts == ("so good", "grr angry")


def test_a_persons_own_table_is_read(tmp_path: Path) -> None:
    rows = "text,label,split", "hooray,happy,train", "go away,angry,val", '"well, hm",neutral,test', "42,sad,train"
    (tmp_path / "labels.csv").write_text("\n".join(rows) + "\n")
    classes, splits = read(tmp_path)
    assert classes.names == LABELS
    assert {name: split.texts for name, split in splits.items()} == {
        "train": ("hooray",),
        "dev": ("go away",),
        "test": ("well, hm",),
    }
    shares = classes.target({"disapproval": 0.7, "neutral": 0.3}) @ classes.sums
    np.testing.assert_allclose(shares, [0.3, 0, 0, 0.7, 0, 0, 0], atol=1e-6)


def test_a_person_may_have_labels_of_his_own(tmp_path: Path) -> None:
    rows = "text,label,split", "hm,bored,train", "go away,angry,val", "hooray,happy,test"
    (tmp_path / "labels.csv").write_text("\n".join(rows) + "\n")
    classes, splits = read(tmp_path)
    assert classes.labels == classes.names == ("happy", "angry", "bored")
    assert [splits[name].y.tolist() for name in ("train", "dev", "test")] == [[2], [1], [0]]
    np.testing.assert_array_equal(splits["train"].targets @ classes.sums, [[0, 0, 1]])


def test_a_table_without_splits_is_divided_the_same_every_time(tmp_path: Path) -> None:
    rows = ["text,label", *(f"text number {i},{LABELS[i % 7]}" for i in range(200))]
    (tmp_path / "labels.csv").write_text("\n".join(rows) + "\n")
    first, again = read(tmp_path)[1], read(tmp_path)[1]
    assert [split.texts for split in first.values()] == [split.texts for split in again.values()]
    assert sum(len(split.texts) for split in first.values()) == 200
    assert 140 <= len(first["train"].texts) <= 180


@pytest.mark.parametrize(
    ("file", "content", "complaint"),
    [
        ("train.tsv", "so good\t99\tid\n", "train.tsv, line 1"),
        ("labels.txt", "joy\nhunger", "labels.txt: not the 27 emotions"),
        ("labels.csv", "words,label\na,sad\n", "needs the columns text and label; found words, label"),
        ("labels.csv", "text,label\nhm,sad\nhm,\n", "text 2: has no label"),
        ("labels.csv", "text,label,split\nhm,sad,later\n", "the split 'later' is none of train"),
        ("labels.csv", "text,label,split\nhm,sad,train\n", "no text of the split dev"),
    ],
)
def test_faulty_data_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], file: str, content: str, complaint: str
) -> None:
    (goemotions(tmp_path, "so good\t1") / file).write_text(content)
    assert main(["--data", str(tmp_path)]) == 2
    assert complaint in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "label", "denied"),
    [
        ("I am happy", "happy", "I am not happy"),
        ("I'm sad", "sad", "I'm not sad"),
        ("She is a great cook", "happy", "She is not a great"),
    ],
)
def test_a_plain_feeling_is_denied(words: str, label: str, denied: str) -> None:
    found = deny(words, label, random.Random(0))
    assert found is not None
    assert found[0].startswith(denied)
    assert set(found[1]) <= set(FINE)
    assert sum(found[1].values()) == pytest.approx(1)
    assert sum(found[1].get(fine, 0) for fine in GROUPS[label].split()) == 0


@pytest.mark.parametrize(
    ("words", "label"),
    [
        ("I am not happy", "sad"),
        ("I am glad you failed", "angry"),
        ("the meeting starts at ten", "neutral"),
        ("I am happy " + "and so on " * 9, "happy"),
    ],
)
def test_what_cannot_be_denied_is_left(words: str, label: str) -> None:
    assert all(deny(words, label, random.Random(seed)) is None for seed in range(20))


def test_names_take_the_place_of_the_mask_now_and_then() -> None:
    rng = random.Random(0)
    found = [rename("[NAME] loves [NAME]", rng) for _ in range(200)]
    named = [words for words in found if "[NAME]" not in words]
    assert 50 < len(named) < 110
    assert all(words.split()[0] in NAMES for words in named)
    assert rename("nobody", rng) == "nobody"


def test_words_in_four_bits_come_back() -> None:
    vectors = np.random.default_rng(0).normal(size=(50, 4 * BLOCK)).astype(np.float32)
    words = Words.pack(vectors)
    once = words.unpack()
    step = np.abs(vectors.reshape(50, 4, BLOCK)).max(axis=2).repeat(BLOCK, axis=1) / 7
    assert (np.abs(once - vectors) <= 0.51 * step).all()
    np.testing.assert_array_equal(Words.pack(once).unpack(), once)
    assert words.packed.nbytes == vectors.size // 2


def test_safetensors_are_read(tmp_path: Path) -> None:
    numbers = np.arange(6, dtype=np.float32).reshape(2, 3)
    header: dict[str, Any] = {
        "a": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]},
        "b": {"dtype": "F16", "shape": [2], "data_offsets": [24, 28]},
        "ids": {"dtype": "I64", "shape": [0], "data_offsets": [28, 28]},
        "__metadata__": {"format": "pt"},
    }
    told = json.dumps(header).encode()
    file = tmp_path / "model.safetensors"
    file.write_bytes(
        len(told).to_bytes(8, "little") + told + numbers.tobytes() + np.array([1, 2], np.float16).tobytes()
    )
    found = safetensors.read(file)
    assert set(found) == {"a", "b"}
    np.testing.assert_array_equal(found["a"], numbers)
    np.testing.assert_array_equal(found["b"], [1, 2])
    file.write_bytes(b"\x04\0\0\0\0\0\0\0nope")
    with pytest.raises(ConversionError, match=r"model\.safetensors: not safetensors"):
        safetensors.read(file)


def test_calibration_finds_temperature_and_shifts() -> None:
    rng = np.random.default_rng(0)
    y = rng.integers(3, size=20_000)
    true = 2 * (np.eye(3)[y] + rng.normal(size=(20_000, 3)) / np.sqrt(2))  # the posterior is the softmax of these
    spoilt = (2.5 * true + [1.0, 0.0, -1.0]).astype(np.float32)
    head = calibrate(spoilt, y, labels=("a", "b", "c"), prior=np.full(3, 1 / 3))
    assert head.temperature == pytest.approx(2.5, rel=0.05)
    assert head.bias - head.bias[1] == pytest.approx([-1.0, 0.0, 1.0], abs=0.1)
    assert ece(y, head.posterior(spoilt)) < 0.015
