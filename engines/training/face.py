"""Train the face encoder: ``python -m engines.training face --data DIR [--cache DIR] [--folds N]``.

DIR holds pictures of faces and a ``labels.csv`` with the columns file and label, and maybe split (``train`` or
``val``) and identity, such as muxspace/facial_expressions (Apache-2.0), or a person's own. Every picture is looked at
with the run-time's own detector, cut-outs and networks. Written are ``face.onnx``, the wide network, and ``face.npz``,
the head on it, the general one and the close one; they saw ``train`` alone. Measured are folds over all pictures in
which nobody is on both sides, each trained in the same way from the start, and ``val``. What is done is kept in the
cache: the same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.progress import Progress
from sklearn.model_selection import StratifiedGroupKFold

from agent.types import F64
from engines.convert import faceapi
from engines.models import default_cache, sha256_of
from engines.training import face_net, face_top
from engines.training.face_data import WAYS, DataError, Ints, Shown, Words, gather, models, read_table
from engines.training.face_lean import Leaning
from engines.training.face_net import ENOUGH, LEAN, ROUNDS, Fitted, fit
from engines.training.face_report import Measured, write
from engines.training.face_top import read_weights

LABELS = ("neutral", "happy", "sad", "angry", "fearful", "disgusted", "surprised")
FOLDS = 5
SEED = 0
"""Of the folds."""


def main(argv: Sequence[str]) -> int:
    """Train, measure, print, write; 0, or 2 where the folder cannot be trained on."""
    parser = argparse.ArgumentParser(prog="python -m engines.training face", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with labels.csv")
    parser.add_argument("--cache", type=Path, default=default_cache().parent / "training", help="what is done is kept")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent.parent / "weights", help="of the weights")
    parser.add_argument("--report", type=Path, help="folder of face.json and face.png; the cache, if not given")
    parser.add_argument("--folds", type=int, default=FOLDS, help="of the check over all pictures; 0 leaves it out")
    args = parser.parse_args(argv)
    try:
        _train(args.data, cache=args.cache, out=args.out, report=args.report or args.cache, folds=args.folds)
    except DataError as error:
        print(f"training: {error}", file=sys.stderr)
        return 2
    return 0


def _train(data: Path, *, cache: Path, out: Path, report: Path, folds: int) -> None:
    table = read_table(data)
    labels = labels_of(table.labels)
    parts = models()
    with Progress() as bar:
        pictures = bar.add_task("pictures", total=len(table.files))
        shown = gather(data, table.files, cache, parts, tick=lambda done: bar.update(pictures, completed=done))
        bar.update(pictures, completed=len(table.files))
        every = np.array([labels.index(name) for name in table.labels.tolist()])  # (pictures,)
        y, people, train = every[shown.item], table.people[shown.item], table.train[shown.item]
        job = _Job(shown, y, people, labels, cache, parts["expression-start"], bar)
        fitted = job.fit(np.flatnonzero(train), "train")
        out.mkdir(parents=True, exist_ok=True)
        faceapi.graph(fitted.weights).save(out / "face.onnx", name="face")
        fitted.head.save(out / "face.npz")
        sets = {}
        val = np.flatnonzero(~train)
        if len(val):
            probs = [fitted.posterior(shown, val, way=way) for way in range(len(WAYS))]
            sets["val"] = Measured(every[~table.train], _places(shown.item, ~table.train), probs, shown.quality[val])
        if folds:
            probs, leaning = job.across(folds)
            everything = np.ones(len(every), bool)
            sets[f"{folds} folds"] = Measured(every, _places(shown.item, everything), probs, shown.quality, leaning)
    write(report, sets, labels=labels, ways=WAYS, curves=job.curves)


def labels_of(found: Words) -> tuple[str, ...]:
    """The project's that occur, in its order; then others by name. Raises `DataError` where there is but one."""
    names = set(found.tolist())
    labels = (*(label for label in LABELS if label in names), *sorted(names - set(LABELS)))
    if len(labels) < 2:
        raise DataError(f"labels.csv: at least two labels are needed to tell apart; found {', '.join(labels)}")
    return labels


def _places(item: Ints, chosen: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Ints:
    """Of the pictures with a face among the chosen, their places among these."""
    return np.asarray((np.cumsum(chosen) - 1)[item[chosen[item]]], np.intp)


class _Job:
    """Trainings on one set of pictures, each kept in the cache."""

    def __init__(
        self, shown: Shown, y: Ints, people: Words, labels: Sequence[str], cache: Path, start: Path, bar: Progress
    ) -> None:
        self._shown, self._y, self._people, self._labels = shown, y, people, labels
        self._cache, self._bar = cache, bar
        self._start = read_weights(start)
        self._key = "".join(sha256_of(path) for path in (Path(face_net.__file__), Path(face_top.__file__), start))
        self.curves: dict[str, list[tuple[float, float]]] = {}

    def fit(self, which: Ints, name: str) -> Fitted:
        """Train on the faces `which`."""
        key = hashlib.sha256(self._key.encode() + self._shown.item[which].tobytes() + self._y[which].tobytes())
        kept = self._cache / f"face-{name.replace(' ', '-')}-{key.hexdigest()[:16]}.npz"
        task = self._bar.add_task(name, total=ROUNDS)
        if kept.exists():
            fitted = Fitted.load(kept)
        else:
            fitted = fit(
                self._shown,
                self._y,
                self._people,
                which,
                labels=self._labels,
                start=self._start,
                tick=lambda: self._bar.advance(task),
            )
            fitted.save(kept)
        self._bar.update(task, completed=ROUNDS)
        self.curves[name] = fitted.curve
        return fitted

    def across(self, folds: int) -> tuple[list[F64], Leaning]:
        """By way, posteriors (N, K) of each face by a training that saw nobody of its fold, and how these lean.

        The shares are of all that each training was given, those kept for its temperature among them.
        """
        probs = [np.zeros((len(self._y), len(self._labels))) for _ in WAYS]
        shares, temperatures = np.zeros_like(probs[0]), np.zeros(len(self._y))
        splits = StratifiedGroupKFold(folds, shuffle=True, random_state=SEED).split(self._y, self._y, self._people)
        for number, (fitted, rest) in enumerate(splits, 1):
            trained = self.fit(fitted, f"fold {number}")
            for way, into in enumerate(probs):
                into[rest] = trained.posterior(self._shown, rest, way=way)
            counts = np.bincount(self._y[fitted], minlength=len(self._labels))
            shares[rest] = np.maximum(counts, ENOUGH) / len(fitted)
            temperatures[rest] = trained.head.temperature
        return probs, Leaning(LEAN, shares, temperatures)
