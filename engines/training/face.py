"""Train the head of the face encoder: ``python -m engines.training face --data DIR [--cache DIR]``.

DIR holds pictures of faces and a ``labels.csv`` with the columns file, label, split (``train`` or ``val``) and
identity, such as muxspace/facial_expressions (Apache-2.0). What is trained on are the features that the run-time's own
detector, cut-out and network give. Printed are figures for ``val``, whose people are not in ``train``, and for folds
over all pictures in which nobody is on both sides.

The head that is written saw ``train`` alone.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter

import cv2
import numpy as np
import numpy.typing as npt
from sklearn.model_selection import StratifiedGroupKFold

from agent.types import F32, F64, U8
from engines import Engine, open_engine
from engines.detector import FaceFinder
from engines.face import FAR_BORDER, NEAR_BORDER, NEAR_LEAST, features, open_finder
from engines.head import Head
from engines.models import ModelStore, sha256_of
from engines.portrait import choose, cut
from engines.training.linear import fit, report

LABELS = ("neutral", "happy", "sad", "angry", "fearful", "disgusted", "surprised")
RARE = "fearful"
"""Too rare in the data (16 pictures) for its recall to say anything: left out of the mean recall that is compared."""
STRENGTHS = (1e-4, 3e-4)
"""Inverse strengths of the L2 penalty that are tried, on ``train`` alone."""
OPINION = 7
"""The last features are the network's own opinion, one per label of its training set."""
TRUST = 50
"""How much weaker the penalty on the opinion is than on the rest: it was formed on FER2013, with 4,097 fearful and 436
disgusted faces in training, and is the best there is to go by for what is rare here."""
FOLDS = 5
_BATCH = 32


def main(argv: Sequence[str]) -> int:
    """Train, measure, print, write; 0."""
    parser = argparse.ArgumentParser(prog="python -m engines.training face", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with labels.csv")
    parser.add_argument("--cache", type=Path, help="folder in which features are kept between runs")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent.parent / "weights" / "face.npz")
    parser.add_argument("--folds", type=int, default=FOLDS, help="of the check over all pictures; 0 leaves it out")
    args = parser.parse_args(argv)
    with (args.data / "labels.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    x, item = _features(args.data, [row["file"] for row in rows], args.cache)
    print(f"{len(rows)} pictures, a face found in {len(item)}")
    y = np.array([LABELS.index(row["label"]) for row in rows])[item]
    people = np.array([row["identity"] for row in rows])[item]
    train = np.array([row["split"] == "train" for row in rows])[item]

    head = fit_head(x[train], y[train], people[train])
    head.save(args.out)
    _print("val", y[~train], head.posterior(x[~train]))
    if args.folds:
        _print(f"{args.folds} folds by identity", y, _cross(x, y, people, folds=args.folds))
    return 0


def fit_head(x: F32, y: npt.NDArray[np.intp], people: npt.NDArray[np.str_]) -> Head:
    """A head on features (N, D), every label weighing the same, calibrated on the data as it comes.

    A penalty that is `TRUST` times weaker is the same as that many copies of a feature, whose weights add up.
    """
    copies = np.concatenate([x] + [x[:, -OPINION:]] * (TRUST - 1), axis=1)
    head = fit(copies, y, labels=LABELS, groups=people, class_weight="balanced", c=STRENGTHS, folds=3, natural=True)
    rest = x.shape[1] - OPINION
    opinion = head.weight[rest:].reshape(TRUST, OPINION, len(LABELS)).sum(axis=0)
    kept = slice(0, x.shape[1])
    weight = np.concatenate([head.weight[:rest], opinion])
    return replace(head, mean=head.mean[kept], scale=head.scale[kept], weight=weight)


def _cross(x: F32, y: npt.NDArray[np.intp], people: npt.NDArray[np.str_], *, folds: int) -> F64:
    """Posteriors (N, K) of each picture by a head that saw nobody of its fold."""
    probs = np.zeros((len(y), len(LABELS)))
    for fitted, rest in StratifiedGroupKFold(folds, shuffle=True, random_state=0).split(x, y, people):
        probs[rest] = fit_head(x[fitted], y[fitted], people[fitted]).posterior(x[rest])
    return probs


def _print(title: str, y: npt.NDArray[np.intp], probs: F64) -> None:
    found = report(y, probs)
    compared = np.mean([recall for k, recall in found.recall.items() if LABELS[k] != RARE])
    recalls = ", ".join(f"{LABELS[k]} {recall:.2f}" for k, recall in found.recall.items())
    print(f"{title}: {found}; uar without {RARE} {compared:.3f}; recall: {recalls}", flush=True)


def _features(folder: Path, files: Sequence[str], cache: Path | None) -> tuple[F32, npt.NDArray[np.intp]]:
    """Of the pictures in which a face is found: features (N, D), and their places (N,) in `files`."""
    store = ModelStore()
    parts = [store.path(name) for name in ("face-detector-near", "face-detector-far", "face-encoder")]
    key = "-".join([*(sha256_of(part)[:8] for part in parts), f"{NEAR_BORDER}-{NEAR_LEAST}-{FAR_BORDER}"])
    kept = cache / f"face-{key}.npz" if cache else None
    if kept and kept.exists():
        with np.load(kept, allow_pickle=False) as arrays:
            return arrays["x"], arrays["item"]
    finder = open_finder(store, backend="onnxruntime")
    expression = open_engine(store.path("face-encoder"), "onnxruntime")
    greys: list[U8] = []
    item: list[int] = []
    for start in range(0, len(files), _BATCH):
        frames = [_read(folder / file) for file in files[start : start + _BATCH]]
        for i, (frame, faces) in enumerate(zip(frames, finder.detect(frames), strict=True)):
            face = choose(faces, frame)
            if face is not None:
                greys.append(cut(frame, face))
                item.append(start + i)
    x = np.concatenate([features(greys[i : i + _BATCH], expression) for i in range(0, len(greys), _BATCH)])
    _time(_read(folder / files[item[0]]), finder, expression)
    finder.close()
    expression.close()
    if kept:
        kept.parent.mkdir(parents=True, exist_ok=True)
        np.savez(kept, allow_pickle=False, x=x, item=np.array(item))
    return x, np.array(item)


def _read(path: Path) -> U8:
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if picture is None:
        raise ValueError(f"{path}: named in labels.csv, but cv2 reads no picture from it")
    return np.asarray(picture, dtype=np.uint8)


def _time(frame: U8, finder: FaceFinder, expression: Engine) -> None:
    """Print the median milliseconds of each step for one frame."""
    face = choose(finder.detect([frame])[0], frame)
    assert face is not None
    grey = cut(frame, face)
    empty = np.zeros((480, 640, 3), np.uint8)
    steps: dict[str, Callable[[], object]] = {
        "detect, a near face": lambda: finder.detect([frame]),
        "detect, no near face": lambda: finder.detect([empty]),
        "cut out": lambda: cut(frame, face),
        "describe": lambda: features([grey], expression),
    }
    for name, step in steps.items():
        times = []
        for _ in range(20):
            begin = perf_counter()
            step()
            times.append(perf_counter() - begin)
        print(f"{name}: {1e3 * float(np.median(times)):.2f} ms, median of {len(times)}")
