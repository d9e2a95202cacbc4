"""The pictures that the face encoder is trained on, and the scenes that detectors are tried on.

The training itself needs torch: tests/train/test_face.py."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from threadpoolctl import threadpool_limits

from agent.types import F32
from engines.detector import Face
from engines.evaluation.metrics import ece
from engines.training.face_data import DataError, read_picture, read_table, spoil
from engines.training.face_lean import LEANS, Leaning
from engines.training.face_report import Measured, write
from engines.training.linear import fit
from engines.training.scenes import HEIGHT, SIZES, WIDTH, Scene, make_scenes
from tests.faces import portrait

LABELS = ("neutral", "happy", "sad", "angry", "fearful", "disgusted", "surprised")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """The matrices here are small: threads would only wait for one another."""
    with threadpool_limits(1):
        yield


def folder_of(path: Path, *, each: int) -> Path:
    """Portraits, `each` per label, none like the other; every fourth in ``val``, one without a face."""
    rng = np.random.default_rng(0)
    with (path / "labels.csv").open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["file", "label", "split", "identity"])
        for i in range(each * len(LABELS)):
            turn = cv2.getRotationMatrix2D((225, 120), rng.uniform(-15, 15), rng.uniform(0.8, 1.2))
            picture = cv2.warpAffine(portrait(), turn, (512, 512))[:256, 100:356]
            cv2.imwrite(str(path / f"{i}.png"), np.zeros_like(picture) if i == 3 else picture)
            person = i // len(LABELS)
            table.writerow([f"{i}.png", LABELS[i % len(LABELS)], "val" if person % 4 == 3 else "train", f"p{person}"])
    return path


def test_a_table_without_people_and_split_keeps_some_for_val(tmp_path: Path) -> None:
    lines = "".join(f"{i}.png,happy\n" for i in range(400))
    (tmp_path / "labels.csv").write_text(f"file,label\n{lines}")
    table = read_table(tmp_path)
    assert len(set(table.people.tolist())) == 400
    assert 0.8 < table.train.mean() < 0.95
    np.testing.assert_array_equal(table.train, read_table(tmp_path).train)


def test_a_table_keeps_to_its_split_and_people(tmp_path: Path) -> None:
    table = read_table(folder_of(tmp_path, each=4))
    assert table.people[:7].tolist() == ["p0"] * 7
    assert table.train.tolist() == [True] * 21 + [False] * 7


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("file,emotion\na.png,happy\n", "header with the columns file and label"),
        ("file,label\n", "header with the columns file and label"),
        ("file,label,split\na.png,happy,train\nb.png,sad,test\n", "line 3: split 'test' is neither train nor val"),
    ],
)
def test_a_table_that_is_no_table_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(DataError, match=said):
        read_table(tmp_path)


def test_a_folder_without_a_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"labels\.csv: it names the pictures"):
        read_table(tmp_path)


def test_a_picture_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"broken\.jpg: named in labels\.csv"):
        read_picture(tmp_path / "broken.jpg")


def test_spoilt_pictures_are_worse_each_in_its_way() -> None:
    frame = portrait()
    worse = [spoil(frame, np.random.default_rng(seed), width=105) for seed in range(40)]
    for picture in worse:
        assert picture.shape == frame.shape
        assert picture.dtype == np.uint8
    np.testing.assert_array_equal(worse[7], spoil(frame, np.random.default_rng(7), width=105))
    levels = np.array([picture.mean() for picture in worse]) / frame.mean()
    assert levels.min() < 0.5, "some are dark"
    detail = [cv2.Laplacian(cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY), cv2.CV_32F).var() for picture in worse]
    plain = cv2.Laplacian(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY), cv2.CV_32F).var()
    assert min(detail) < 0.2 * plain, "some are blurred"
    assert any(np.ptp(picture.astype(int), axis=2).max() == 0 for picture in worse), "some have no colour"


def examples(n: int, d: int, *, seed: int = 0) -> tuple[F32, npt.NDArray[np.intp], npt.NDArray[np.str_]]:
    """Separable a little, and very uneven."""
    rng = np.random.default_rng(seed)
    y = rng.choice(len(LABELS), size=n, p=[0.5, 0.3, 0.05, 0.05, 0.03, 0.03, 0.04])
    centres = rng.normal(size=(len(LABELS), d))
    return (centres[y] * 0.5 + rng.normal(size=(n, d))).astype(np.float32), y, np.arange(n).astype(str)


def test_natural_calibration_holds_on_data_as_it_comes() -> None:
    x, y, people = examples(700, 8)
    test, truth, _ = examples(700, 8)
    settings: dict[str, Any] = {"labels": LABELS, "groups": people, "class_weight": "balanced", "c": 1e-3}
    weighted, natural = (fit(x, y, natural=mode, **settings).posterior(test) for mode in (False, True))
    assert ece(truth, natural) < ece(truth, weighted)
    np.testing.assert_array_equal(weighted.argmax(axis=1), natural.argmax(axis=1))


def test_scenes_have_their_face_where_they_say(tmp_path: Path) -> None:
    sets = make_scenes(folder_of(tmp_path, each=1), 3)
    assert list(sets) == ["fills", *(f"{size} px" for size in SIZES), "empty"]
    again = make_scenes(tmp_path, 3)
    for name, scenes in sets.items():
        assert [scene.box is None for scene in scenes] == [name == "empty"] * 3
        for scene, same in zip(scenes, again[name], strict=True):
            np.testing.assert_array_equal(scene.frame, same.frame)
            assert name == "fills" or scene.frame.shape == (HEIGHT, WIDTH, 3)


def test_a_face_counts_as_found_on_its_place_and_in_its_size_only() -> None:
    def face(left: float, top: float, right: float, bottom: float) -> Face:
        return Face(np.array([left, top, right, bottom], np.float32), np.zeros((6, 2), np.float32), 0.9)

    scene = Scene(np.zeros((HEIGHT, WIDTH, 3), np.uint8), (100, 100, 200, 200))
    assert scene.found([face(105, 105, 195, 195)])
    assert scene.found([face(105, 105, 195, 195), face(0, 0, 20, 20)])
    assert not scene.found([])
    assert not scene.found([face(300, 105, 390, 195)])
    assert not scene.found([face(140, 140, 160, 160)])
    assert not scene.found([face(105, 105, 195, 195), face(200, 200, 400, 400)])


def leaning_faces(n: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.float64], Leaning]:
    """Labels, logits of a perfectly calibrated head, and how it leans: one label in twenty is sad, the rest neutral."""
    rng = np.random.default_rng(0)
    shares = np.array([0.95, 0.05])
    y = rng.choice(2, size=n, p=shares)
    seen = rng.normal(np.where(y == 1, 1.0, -1.0))
    logits = np.log(shares) + np.stack([-seen, seen], axis=1)
    return y, logits, Leaning(0.2, np.tile(shares, (n, 1)), np.full(n, 0.8))


def softmax(logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    odds = np.exp(logits)
    return np.asarray(odds / odds.sum(axis=1, keepdims=True))


@pytest.mark.parametrize("lean", LEANS)
def test_another_lean_is_what_a_head_with_it_would_say(lean: float) -> None:
    _, logits, leaning = leaning_faces(50)

    def said(lean: float) -> npt.NDArray[np.float64]:
        return softmax((logits + np.log(1 + lean / leaning.shares)) / 0.8)

    np.testing.assert_allclose(leaning.shifted(said(leaning.lean), lean), said(lean))


def test_the_report_says_what_leaning_costs_and_brings(tmp_path: Path) -> None:
    y, logits, leaning = leaning_faces(4000)
    probs = softmax((logits + np.log(1 + leaning.lean / leaning.shares)) / 0.8)
    quality = np.random.default_rng(1).random((len(y), 1))
    folds = Measured(y, np.arange(len(y)), [probs], quality, leaning)
    sets = {"folds": folds, "val": Measured(y, np.arange(len(y)), [probs], quality)}
    write(tmp_path, sets, labels=("neutral", "sad"), ways=("plain",), curves={"train": [(np.nan, 1.0), (0.5, 0.9)]})
    report = json.loads((tmp_path / "face.json").read_text())
    assert "leans" not in report["val"]
    points = report["folds"]["leans"]
    assert [point["lean"] for point in points] == list(LEANS)
    accuracy, recall = ([point[name] for point in points] for name in ("accuracy", "uar_without_fearful"))
    assert accuracy == sorted(accuracy, reverse=True)
    assert recall == sorted(recall)
    shipped = points[LEANS.index(leaning.lean)]
    assert shipped["accuracy"] == pytest.approx(report["folds"]["plain"]["accuracy"])
    assert shipped["uar_without_fearful"] == pytest.approx(report["folds"]["plain"]["uar"])
