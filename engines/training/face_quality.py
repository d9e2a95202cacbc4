"""Does the quality of a face tell errors? ``python -m engines.training.face_quality --data DIR [--pictures N]``.

Pictures of ``val`` are spoilt, each kind by itself and in three grades, and read by the encoder as it is deployed. For
each kind is printed how many faces are still found, how many of these are named rightly, their mean quality, and the
AUC of quality against being right among them and the same pictures as they were.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from agent.types import U8
from engines.evaluation.metrics import auc
from engines.face import Networks, features, open_finder
from engines.head import Head
from engines.models import ModelStore
from engines.portrait import choose, quality, take
from engines.training.face_data import read_picture, read_table

GRADES = (0, 1, 2)


def blurred(frame: U8, grade: int) -> U8:
    """By a Gaussian of 2, 4 and 8 % of the width."""
    return np.asarray(cv2.GaussianBlur(frame, (0, 0), (0.02, 0.04, 0.08)[grade] * frame.shape[1]), np.uint8)


def dark(frame: U8, grade: int) -> U8:
    """A fifth, a tenth and a twentieth of the light, with the sensor's noise."""
    noise = np.random.default_rng(grade).normal(0, 4, frame.shape)
    return np.asarray(np.clip(frame * (0.2, 0.1, 0.05)[grade] + noise, 0, 255), np.uint8)


def covered(frame: U8, grade: int) -> U8:
    """The lower 35, 45 and 55 % in grey, as by a hand or a scarf."""
    hidden = frame.copy()
    hidden[round(len(frame) * (0.65, 0.55, 0.45)[grade]) :] = 110
    return hidden


def small(frame: U8, grade: int) -> U8:
    """40, 28 and 20 pixels wide, in the middle of grey."""
    side = (40, 28, 20)[grade]
    far = cv2.resize(frame, (side, side), interpolation=cv2.INTER_AREA)
    edge = 2 * side
    return np.asarray(cv2.copyMakeBorder(far, edge, edge, edge, edge, cv2.BORDER_CONSTANT, value=(110,) * 3), np.uint8)


KINDS: Mapping[str, Callable[[U8, int], U8]] = {"blur": blurred, "darkness": dark, "cover": covered, "distance": small}


class Reader:
    """The deployed encoder, one frame at a time."""

    def __init__(self, labels: Sequence[str]) -> None:
        store = ModelStore()
        self._finder = open_finder(store, backend="onnxruntime")
        self._networks = Networks.open(store, backend="onnxruntime")
        self._head = Head.load(store.path("face-head")).onto(labels)

    def read(self, frame: U8) -> tuple[int, float] | None:
        """The label's index and the quality; None where no face is found."""
        face = choose(self._finder.detect([frame])[0], frame)
        if face is None:
            return None
        shown = take(frame, face)
        probs = self._head.posterior(features([shown], self._networks))
        return int(probs.argmax()), quality(face, shown.grey)


def main(argv: Sequence[str]) -> int:
    """Print a line for each kind, and one for all together; 0."""
    parser = argparse.ArgumentParser(prog="python -m engines.training.face_quality", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with labels.csv")
    parser.add_argument("--pictures", type=int, default=200)
    args = parser.parse_args(argv)
    table = read_table(args.data)
    labels = list(dict.fromkeys(table.labels.tolist()))
    reader = Reader(labels)
    kept = np.flatnonzero(~table.train)
    chosen = np.random.default_rng(0).permutation(kept)[: args.pictures].tolist()
    frames = [read_picture(args.data / table.files[i]) for i in chosen]
    truth = [labels.index(str(table.labels[i])) for i in chosen]
    plain = _seen(reader, frames, truth)
    _say("as they are", plain, len(frames), plain)
    everything = list(plain)
    for name, spoil in KINDS.items():
        worse = [found for grade in GRADES for found in _seen(reader, [spoil(f, grade) for f in frames], truth)]
        everything += worse
        _say(name, worse, len(frames) * len(GRADES), [*plain, *worse])
    _say("all together", everything, len(frames) * (1 + len(KINDS) * len(GRADES)), everything)
    return 0


def _seen(reader: Reader, frames: Sequence[U8], truth: Sequence[int]) -> list[tuple[bool, float]]:
    """Of each frame with a face: whether it was named rightly, and the quality."""
    found = [(reader.read(frame), label) for frame, label in zip(frames, truth, strict=True)]
    return [(seen[0] == label, seen[1]) for seen, label in found if seen is not None]


def _say(name: str, found: Sequence[tuple[bool, float]], frames: int, pool: Sequence[tuple[bool, float]]) -> None:
    right, good = np.array([r for r, _ in found]), np.array([q for _, q in found])
    area = auc(np.array([r for r, _ in pool]), np.array([q for _, q in pool]))
    print(
        f"{name:12} found {len(found) / frames:.2f}, right of these {right.mean():.2f}, quality {good.mean():.2f},"
        f" AUC {area:.2f}",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
