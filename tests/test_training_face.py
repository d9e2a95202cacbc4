"""Training of the face encoder's head, from pictures to a head; and the scenes that detectors are tried on."""

import csv
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
from engines.head import Head
from engines.training.face import LABELS, OPINION, TRUST, fit_head, main
from engines.training.linear import ece, fit
from engines.training.scenes import HEIGHT, SIZES, WIDTH, Scene, make_scenes
from tests.faces import portrait, store


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


def test_pictures_become_a_head_that_the_encoder_can_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store()  # fetched
    data = folder_of(tmp_path, each=6)
    arguments = [
        "--data",
        str(data),
        "--cache",
        str(tmp_path / "cache"),
        "--out",
        str(tmp_path / "face.npz"),
        "--folds",
        "0",
    ]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert "42 pictures, a face found in 41" in said
    assert "val: n 7, accuracy" in said
    assert "folds" not in said
    head, deployed = Head.load(tmp_path / "face.npz"), Head.load(store().path("face-head"))
    assert head.labels == deployed.labels == LABELS
    assert head.weight.shape == deployed.weight.shape
    (cached,) = (tmp_path / "cache").iterdir()
    with np.load(cached) as arrays:
        assert arrays["x"].shape == (41, len(head.mean))
        assert 3 not in arrays["item"]


def test_a_picture_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    store()
    (tmp_path / "labels.csv").write_text("file,label,split,identity\nbroken.jpg,happy,train,a\n")
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"broken\.jpg: named in labels\.csv"):
        main(["--data", str(tmp_path), "--out", str(tmp_path / "face.npz")])


def examples(n: int, d: int, *, seed: int = 0) -> tuple[F32, npt.NDArray[np.intp], npt.NDArray[np.str_]]:
    """Separable a little, and very uneven."""
    rng = np.random.default_rng(seed)
    y = rng.choice(len(LABELS), size=n, p=[0.5, 0.3, 0.05, 0.05, 0.03, 0.03, 0.04])
    centres = rng.normal(size=(len(LABELS), d))
    return (centres[y] * 0.5 + rng.normal(size=(n, d))).astype(np.float32), y, np.arange(n).astype(str)


def test_copies_of_the_opinion_fold_into_one() -> None:
    x, y, people = examples(250, 9)
    head = fit_head(x, y, people)
    copies = np.concatenate([x] + [x[:, -OPINION:]] * (TRUST - 1), axis=1)
    settings: dict[str, Any] = {"class_weight": "balanced", "c": (1e-4, 3e-4), "folds": 3, "natural": True}
    unfolded = fit(copies, y, labels=LABELS, groups=people, **settings)
    np.testing.assert_allclose(head.posterior(x), unfolded.posterior(copies), atol=1e-6)


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
