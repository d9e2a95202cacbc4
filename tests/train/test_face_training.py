"""Training of the face encoder with torch, from pictures to the files that the encoder opens."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch

from engines import open_engine
from engines.convert import faceapi
from engines.detector import Detector
from engines.face import FAR_BORDER
from engines.face_networks import Networks, views
from engines.head import Head
from engines.portrait import take
from engines.training import face
from engines.training.face_data import PARTS, DataError, Shown
from engines.training.face_lean import LEANS
from engines.training.face_net import Fitted, fit
from engines.training.face_top import Top, embed, read_weights
from tests.faces import engine, portrait, store

LABELS = ("neutral", "happy", "sad")


def weights(channels: tuple[int, int, int, int] = (4, 6, 8, 10)) -> dict[str, npt.NDArray[Any]]:
    """Of an expression net with so many channels, drawn at random."""
    rng = np.random.default_rng(0)
    found = {}
    for block, now in enumerate(channels):
        before = (3, *channels)[block]
        for step in range(4):
            name, come = f"dense{block}/conv{step}", before if step == 0 else now
            if block == step == 0:
                found[f"{name}/filters"] = rng.normal(0, 0.3, (now, 3, 3, 3))
            else:
                found[f"{name}/depthwise_filter"] = rng.normal(0, 0.3, (come, 1, 3, 3))
                found[f"{name}/pointwise_filter"] = rng.normal(0, come**-0.5, (now, come, 1, 1))
            found[f"{name}/bias"] = rng.normal(0, 0.1, now)
    found["fc/weights"], found["fc/bias"] = rng.normal(size=(channels[-1], 7)), np.zeros(7)
    return {name: np.asarray(value, np.float32) for name, value in found.items()}


def test_torch_and_onnx_agree(tmp_path: Path) -> None:
    faceapi.graph(weights(), stem=3).save(tmp_path / "net.onnx", name="net")
    pictures = np.random.default_rng(1).uniform(0, 255, (3, 3, 112, 112)).astype(np.float32)
    found = open_engine(tmp_path / "net.onnx", "onnxruntime").infer({"picture": pictures})
    net = read_weights(tmp_path / "net.onnx")
    with torch.inference_mode():
        embedding = Top(net)(torch.tensor(found["stem"])).numpy()
    np.testing.assert_allclose(embedding, found["embedding"], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(embedding @ net["fc/weights"], found["logits"], rtol=1e-4, atol=1e-4)


def faces(n: int, *, seed: int) -> tuple[Shown, npt.NDArray[np.intp], npt.NDArray[np.str_]]:
    """Made up: what a label looks like shows in the stems and, less, in what the close network and the general give."""
    rng = np.random.default_rng(seed)
    y = rng.choice(3, size=n, p=[0.6, 0.3, 0.1])
    looks, opinions, means = np.random.default_rng(0).normal(size=(3, 3, 8))
    stems = looks[y][:, None, None, :, None, None] + rng.normal(size=(n, 2, 2, 8, 14, 14))
    close = 0.3 * opinions[y][:, None] + rng.normal(size=(n, 2, 8))
    general = 0.3 * means[y][:, None] + rng.normal(size=(n, 2, 8))
    shown = Shown(
        stems=stems.astype(np.float16),
        general=general.astype(np.float32),
        close=close.astype(np.float32),
        before=np.zeros((n, 2, 10), np.float32),
        quality=np.ones((n, 2)),
        item=np.arange(n),
    )
    top = Top(weights())
    before = np.stack([embed(top, shown, np.arange(n), way=way) for way in (0, 1)], axis=1)
    return replace(shown, before=before), y, np.arange(n).astype(str)


@pytest.fixture(scope="module")
def fitted() -> Fitted:
    shown, y, people = faces(400, seed=1)
    return fit(shown, y, people, np.arange(len(y)), labels=LABELS, start=weights())


def test_what_was_learnt_holds_for_others(fitted: Fitted) -> None:
    shown, y, _ = faces(300, seed=2)
    probs = fitted.posterior(shown, np.arange(len(y)), way=0)
    assert np.mean(probs.argmax(axis=1) == y) > 0.8
    likelihood = -np.log(probs[np.arange(len(y)), y]).mean()
    assert likelihood < 0.7 * -np.log(fitted.head.prior[y]).mean()


def test_its_prior_leans_towards_the_rare(fitted: Fitted) -> None:
    _, y, _ = faces(400, seed=1)
    neutral, happy, sad = fitted.head.prior
    assert neutral > happy > sad
    assert sad / neutral > 1.05 * np.sum(y == 2) / np.sum(y == 0)


def test_the_same_training_gives_the_same(fitted: Fitted, tmp_path: Path) -> None:
    shown, y, people = faces(400, seed=1)
    again = fit(shown, y, people, np.arange(len(y)), labels=LABELS, start=weights())
    for name, value in fitted.weights.items():
        np.testing.assert_array_equal(value, again.weights[name])
    np.testing.assert_array_equal(fitted.head.weight, again.head.weight)
    fitted.save(tmp_path / "kept.npz")
    kept = Fitted.load(tmp_path / "kept.npz")
    ids = np.arange(50)
    np.testing.assert_array_equal(kept.posterior(shown, ids, way=1), fitted.posterior(shown, ids, way=1))


def test_only_the_last_block_is_trained(fitted: Fitted) -> None:
    for name, value in weights().items():
        if name.startswith("dense"):
            assert np.array_equal(fitted.weights[name], value) == (not name.startswith("dense3")), name


def test_a_label_that_nobody_is_left_to_teach_is_refused() -> None:
    shown, y, _ = faces(80, seed=3)
    y[:] = np.arange(80) % 2
    y[5] = 2
    with pytest.raises(DataError, match=r"pictures of several people to learn from; there are .*, sad 1"):
        fit(shown, y, np.arange(80).astype(str), np.arange(80), labels=LABELS, start=weights())


def folder_of(path: Path) -> Path:
    """Portraits of somebody's own folder, 18 per label and none like the other; on the fourth there is no face."""
    rng = np.random.default_rng(0)
    with (path / "labels.csv").open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["file", "label"])
        for i in range(54):
            turn = cv2.getRotationMatrix2D((225, 120), rng.uniform(-15, 15), rng.uniform(0.8, 1.2))
            picture = cv2.warpAffine(portrait(), turn, (512, 512))[:256, 100:356]
            cv2.imwrite(str(path / f"{i}.png"), np.zeros_like(picture) if i == 3 else picture)
            table.writerow([f"{i}.png", ("bored", "happy", "sad")[i % 3]])
    return path


def test_a_folder_becomes_what_the_encoder_opens(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    start = tmp_path / "start.onnx"
    faceapi.graph(weights(), stem=3).save(start, name="start")
    found = {name: store().path(name) for name in PARTS if name.startswith("face-")}
    monkeypatch.setattr(face, "models", lambda: {**found, "expression-start": start})
    data, cache, out = folder_of(tmp_path), tmp_path / "cache", tmp_path / "out"
    arguments = ["--data", str(data), "--cache", str(cache), "--out", str(out), "--folds", "2"]
    assert face.main(arguments) == 0
    said = capsys.readouterr().out
    assert "2 folds, plain: n 54, answered 0.981" in said
    assert "val, spoilt: n " in said
    report = json.loads((cache / "face.json").read_text())
    assert report["labels"] == ["happy", "sad", "bored"]
    assert np.array(report["2 folds"]["plain"]["confusion"]).sum() == 54
    assert [point["lean"] for point in report["2 folds"]["leans"]] == list(LEANS)
    assert "leans" not in report["val"]
    assert set(report["curves"]) == {"train", "fold 1", "fold 2"}
    assert report["curves"]["train"][0][0] is None, "before the first round there is no loss"

    shown = take(portrait(), Detector(engine("face-detector-far"), border=FAR_BORDER).detect([portrait()])[0][0])
    wide = open_engine(out / "face.onnx", "onnxruntime")
    networks = Networks(engine("face-encoder"), wide, engine("face-general"))
    head = Head.load(out / "face.npz")
    assert head.posterior(np.concatenate(views([shown], networks), axis=1)).sum() == pytest.approx(1)

    made = {path: path.stat().st_mtime_ns for path in cache.glob("face-*.npz")}
    written = [(out / name).read_bytes() for name in ("face.onnx", "face.npz")]
    assert len(made) == 3
    assert face.main(arguments) == 0  # goes on from what was done: nothing is trained again
    assert {path: path.stat().st_mtime_ns for path in cache.glob("face-*.npz")} == made
    assert [(out / name).read_bytes() for name in ("face.onnx", "face.npz")] == written


def test_a_folder_that_cannot_be_trained_on_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "labels.csv").write_text("file,label\na.png,happy\nb.png,happy\n")
    assert face.main(["--data", str(tmp_path), "--out", str(tmp_path)]) == 2
    assert "at least two labels are needed" in capsys.readouterr().err
