"""Measure the face detectors: ``python -m engines.training.scenes --data DIR [--scenes N]``.

DIR is that of `engines.training.face`: pictures that a face fills. Each is looked at as it is, and pasted, with a soft
oval edge, into pictures without people (scikit-learn's two samples, cropped and mirrored at random), at several sizes.
A face counts as found where the largest that is reported lies on it and is 0.4 to 2 times as wide. From the pictures
without a face follows how often something else is taken for one. People of ``val`` are not looked at.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path
from time import perf_counter

import cv2
import numpy as np

from agent.types import U8
from engines import open_engine
from engines.detector import MIN_SCORE, Detector, Face, FaceFinder
from engines.face import open_finder
from engines.models import ModelStore

WIDTH, HEIGHT = 640, 480
SIZES = (400, 300, 200, 140, 100, 70)
"""Widths of the pasted faces, in pixels."""
FILLS = 0.9
"""Width of the face in a picture of DIR, of the picture's (median)."""
NETWORKS = {
    "face-detector-near": (0.0, 0.25),
    "face-detector-middle": (0.0, 0.25),
    "face-detector-far": (0.0, 0.1, 0.25),
}
"""With the borders that are tried."""
_BATCH = 16


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """A frame, and where its face is."""

    frame: U8
    box: tuple[float, float, float, float] | None
    """Left, top, right, bottom; None where there is no face."""

    def found(self, faces: Sequence[Face]) -> bool:
        """Whether the largest of `faces` is the scene's."""
        if not faces or self.box is None:
            return False
        face = max(faces, key=lambda face: face.width * face.height)
        (left, top, right, bottom), (x, y) = self.box, face.box.reshape(2, 2).mean(axis=0)
        return bool(left <= x <= right and top <= y <= bottom and 0.4 < face.width / (right - left) < 2)


def main(argv: Sequence[str]) -> int:
    """Print one line per detector: the share found by size of the face, the share of false alarms, ms per frame."""
    parser = argparse.ArgumentParser(prog="python -m engines.training.scenes", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with labels.csv")
    parser.add_argument("--scenes", type=int, default=100, help="of each size")
    parser.add_argument("--min-score", type=float, default=MIN_SCORE, help="not for the deployed detectors")
    args = parser.parse_args(argv)
    sets = make_scenes(args.data, args.scenes)
    store = ModelStore()
    store.fetch(list(NETWORKS))
    finders: dict[str, FaceFinder] = {
        f"{name}, border {border:.0%}": Detector(
            open_engine(store.path(name), "onnxruntime"), border=border, min_score=args.min_score
        )
        for name, borders in NETWORKS.items()
        for border in borders
    }
    finders["as deployed"] = open_finder(store, backend="onnxruntime")
    print(f"{'':34}" + "".join(f"{name:>8}" for name in sets) + "   ms fills, empty")
    for name, finder in finders.items():
        shares = [
            np.mean(
                [bool(faces) if scene.box is None else scene.found(faces) for scene, faces in _detect(finder, scenes)]
            )
            for scenes in sets.values()
        ]
        times = [_milliseconds(finder, sets[which][0].frame) for which in ("fills", "empty")]
        print(f"{name:34}" + "".join(f"{share:8.2f}" for share in shares) + "".join(f"{ms:8.1f}" for ms in times))
    return 0


def make_scenes(folder: Path, n: int) -> dict[str, list[Scene]]:
    """`n` scenes of each kind: faces that fill the frame, faces `SIZES` wide, none; the same each time."""
    rng = np.random.default_rng(0)
    with (folder / "labels.csv").open(encoding="utf-8", newline="") as stream:
        names = [row["file"] for row in csv.DictReader(stream) if row["split"] == "train"]
    read = [cv2.imread(str(folder / names[i])) for i in rng.permutation(len(names))[:n]]
    pictures = [np.asarray(picture, np.uint8) for picture in read]
    backgrounds = _backgrounds()
    sets = {"fills": [Scene(picture, (0, 0, picture.shape[1], picture.shape[0])) for picture in pictures]}
    for width in SIZES:
        sets[f"{width} px"] = [_paste(picture, round(width / FILLS), backgrounds, rng) for picture in pictures]
    sets["empty"] = [Scene(_background(backgrounds, rng), None) for _ in range(n)]
    return sets


def _backgrounds() -> list[U8]:
    """A temple and a flower, (427, 640, 3) each."""
    with as_file(files("sklearn.datasets") / "images") as images:
        return [np.asarray(cv2.imread(str(images / name)), np.uint8) for name in ("china.jpg", "flower.jpg")]


def _background(backgrounds: Sequence[U8], rng: np.random.Generator) -> U8:
    picture = backgrounds[int(rng.integers(len(backgrounds)))]
    height = int(rng.integers(picture.shape[0] // 2, picture.shape[0] + 1))
    width = height * WIDTH // HEIGHT
    y, x = rng.integers(picture.shape[0] - height + 1), rng.integers(picture.shape[1] - width + 1)
    part = cv2.resize(picture[y : y + height, x : x + width], (WIDTH, HEIGHT))
    return np.asarray(part[:, :: rng.choice([-1, 1])], np.uint8).copy()


def _paste(picture: U8, side: int, backgrounds: Sequence[U8], rng: np.random.Generator) -> Scene:
    frame = _background(backgrounds, rng)
    x, y = int(rng.integers(WIDTH - side + 1)), int(rng.integers(HEIGHT - side + 1))
    v, u = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    oval = np.clip((0.98 - np.hypot(u, v)) / 0.12, 0, 1)[..., np.newaxis]
    part = frame[y : y + side, x : x + side]
    part[:] = part * (1 - oval) + cv2.resize(picture, (side, side), interpolation=cv2.INTER_AREA) * oval
    return Scene(frame, (x, y, x + side, y + side))


def _detect(finder: FaceFinder, scenes: Sequence[Scene]) -> list[tuple[Scene, list[Face]]]:
    found: list[list[Face]] = []
    for start in range(0, len(scenes), _BATCH):
        found += finder.detect([scene.frame for scene in scenes[start : start + _BATCH]])
    return list(zip(scenes, found, strict=True))


def _milliseconds(finder: FaceFinder, frame: U8) -> float:
    """Median for one frame."""
    times = []
    for _ in range(30):
        begin = perf_counter()
        finder.detect([frame])
        times.append(perf_counter() - begin)
    return 1e3 * float(np.median(times))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
