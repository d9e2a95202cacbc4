"""Labelled pictures of faces for training: who is on them, and how each is shown to the networks.

Every picture is looked at with the run-time's own detector and cut-outs, in each of `WAYS`: as it is, and as a worse
camera would see it. What of the networks is not trained is run once and kept.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from agent.types import F32, U8
from engines import open_engine
from engines.detector import Face, FaceFinder
from engines.face import near_then_far
from engines.face_networks import Networks, both_ways, colours, described, in_general, mirrored_mean
from engines.familiarity import Familiarity
from engines.models import ModelStore, sha256_of
from engines.portrait import Portrait, choose, take, visible

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]
Words = npt.NDArray[np.str_]

PARTS = ("face-detector-near", "face-detector-far", "face-encoder", "face-general", "expression-start")
"""The models that are run, and not trained."""
VAL_SHARE = 8
"""Where a folder names no split, one in so many people is kept for ``val``."""
WAYS = ("plain", "spoilt")
SEED = 0
_BATCH = 32


class DataError(Exception):
    """A folder cannot be trained on. The message names the file and line, and what was wanted."""


@dataclass(frozen=True, slots=True)
class Table:
    """What ``labels.csv`` says, a line per picture."""

    files: tuple[str, ...]
    labels: Words
    people: Words
    """Who is on it; where the table does not say, everybody is somebody else."""
    train: npt.NDArray[np.bool_]
    """Whether it is to be trained on, or kept for ``val``."""


def read_table(folder: Path) -> Table:
    """``labels.csv`` with the columns file and label, and maybe split (``train`` or ``val``) and identity.

    Raises `DataError`.
    """
    path = folder / "labels.csv"
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = list(csv.DictReader(stream))
    except OSError as error:
        raise DataError(f"{path}: it names the pictures and their labels, and cannot be read: {error}") from error
    missing = {"file", "label"} - set(rows[0] if rows else ())
    if missing:
        raise DataError(f"{path}: needs a header with the columns file and label and a line per picture")
    people = np.array([row.get("identity") or row["file"] for row in rows])
    if "split" in rows[0]:
        odd = next((i for i, row in enumerate(rows) if row["split"] not in ("train", "val")), None)
        if odd is not None:
            raise DataError(f"{path}, line {odd + 2}: split {rows[odd]['split']!r} is neither train nor val")
        train = np.array([row["split"] == "train" for row in rows])
    else:
        train = np.array([hashlib.sha256(who.encode()).digest()[0] % VAL_SHARE != 0 for who in people.tolist()])
    return Table(tuple(row["file"] for row in rows), np.array([row["label"] for row in rows]), people, train)


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """N faces, each in every way and both ways round."""

    stems: npt.NDArray[np.float16]
    """(N, W, 2, 128, 14, 14): what the fixed part of the wide network makes of it; [:, :, 1] of its mirror image."""
    general: F32
    """(N, W, G): what `engines.face_networks.in_general` gives."""
    close: F32
    """(N, W, D): what `engines.face_networks.described` gives."""
    before: F32
    """(N, W, E): the wide network's embedding before any training, the mean of both ways round."""
    quality: Floats
    """(N, W)."""
    item: Ints
    """(N,), places in the table of those in which a face was found."""

    def beside(self, which: Ints, way: int | Ints | slice) -> F32:
        """What the head reads beside the wide network's embedding, (M, G + D): `general`, then `close`."""
        return np.concatenate([self.general[which, way], self.close[which, way]], axis=-1)


def models() -> dict[str, Path]:
    """The files of `PARTS`, fetched if they are not there yet. Raises `engines.models.ModelError`."""
    store = ModelStore()
    store.fetch(list(PARTS))
    return {name: store.path(name) for name in PARTS}


def gather(
    folder: Path,
    files: Sequence[str],
    cache: Path,
    parts: Mapping[str, Path],
    *,
    tick: Callable[[int], None] = lambda done: None,
) -> Shown:
    """Each of `files` in every way, by the networks `parts` (`PARTS`); kept in `cache` for the next time.

    `tick` is told how many pictures are done. The cache knows other networks and files apart, but no changes in the
    code: empty it after one.
    Raises `DataError` where a picture cannot be read.
    """
    key = hashlib.sha256("".join([*(sha256_of(parts[name]) for name in PARTS), *WAYS, *files]).encode())
    kept = cache / f"face-{key.hexdigest()[:16]}"
    if not (kept / "rest.npz").exists():
        kept.mkdir(parents=True, exist_ok=True)
        near, far, close, general, wide = (open_engine(parts[name], "onnxruntime") for name in PARTS)
        looks = list(_looks(folder, files, near_then_far(near, far), tick))
        _describe(looks, Networks(close, wide, general), kept)
    with np.load(kept / "rest.npz", allow_pickle=False) as arrays:
        rest = {name: arrays[name] for name in ("general", "close", "before", "visible", "item")}
    n, ways, d = rest["close"].shape
    known = Familiarity.load(ModelStore().path("face-familiar")).of(rest["close"].reshape(n * ways, d))
    quality = rest.pop("visible") * known.reshape(n, ways)
    return Shown(stems=np.load(kept / "stems.npy", mmap_mode="r"), quality=quality, **rest)


Look = tuple[int, list[Portrait], list[float]]
"""Of a picture with a face: its place, its portrait in each way, and how well each can be seen."""


def _describe(looks: Sequence[Look], networks: Networks, folder: Path) -> None:
    """Run the networks; write ``stems.npy`` and, once that is whole, ``rest.npz``. The wide one gives its stem, too."""
    n, ways, wide = len(looks), len(WAYS), networks.wide
    maps = [int(size) for size in wide.outputs[0].shape[1:]]
    stems = np.lib.format.open_memmap(folder / "stems.npy", "w+", np.float16, (n, ways, 2, *maps))
    close_rows, general_rows, wide_rows = [], [], []
    for start in range(0, n, _BATCH):
        shown = [portrait for _, portraits, _ in looks[start : start + _BATCH] for portrait in portraits]
        pictures = colours([portrait.wide for portrait in shown])
        seen = wide.infer({wide.inputs[0].name: both_ways(pictures)})
        both = np.stack([seen["stem"][: len(shown)], seen["stem"][len(shown) :]], axis=1)  # (n W, 2, …)
        stems[start : start + _BATCH] = both.reshape(-1, ways, *both.shape[1:])
        wide_rows.append(mirrored_mean(seen["embedding"]))
        general_rows.append(in_general(pictures, networks.general))
        close_rows.append(described([portrait.grey for portrait in shown], networks.close))
    stems.flush()
    draft = folder / "rest.part.npz"
    np.savez(
        draft,
        allow_pickle=False,
        general=np.concatenate(general_rows).reshape(n, ways, -1),
        close=np.concatenate(close_rows).reshape(n, ways, -1),
        before=np.concatenate(wide_rows).reshape(n, ways, -1),
        visible=np.array([seen for _, _, seen in looks]),
        item=np.array([place for place, _, _ in looks], np.intp),
    )
    draft.replace(folder / "rest.npz")


def _looks(folder: Path, files: Sequence[str], finder: FaceFinder, tick: Callable[[int], None]) -> Iterator[Look]:
    """One for each picture with a face."""
    for start in range(0, len(files), _BATCH):
        frames = [read_picture(folder / file) for file in files[start : start + _BATCH]]
        for i, (frame, faces) in enumerate(zip(frames, finder.detect(frames), strict=True), start):
            face = choose(faces, frame)
            if face is None:
                continue
            rng = np.random.default_rng((SEED, i))
            moved = _moved(face, rng)
            portraits = [take(frame, face), take(spoil(frame, rng, width=face.width), moved)]
            yield i, portraits, [visible(face, portrait.grey) for portrait in portraits]
        tick(start + len(frames))


def read_picture(path: Path) -> U8:
    """(H, W, 3) BGR. Raises `DataError`."""
    picture = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if picture is None:
        raise DataError(f"{path}: named in labels.csv, but cv2 reads no picture from it")
    return np.asarray(picture, dtype=np.uint8)


def _moved(face: Face, rng: np.random.Generator) -> Face:
    """As another frame's detection would have it: shifted, larger or smaller, tilted by a few degrees."""
    centre = face.box.reshape(2, 2).mean(axis=0)
    scale, angle = np.exp(rng.normal(0, 0.06)), np.radians(rng.normal(0, 5))
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    shift = rng.normal(0, 0.02, 2) * face.width
    points = (face.points - centre) @ turn.T + centre + shift
    box = (face.box.reshape(2, 2) - centre) * scale + centre + shift
    return Face(np.asarray(box.reshape(4), np.float32), np.asarray(points, np.float32), face.score)


def spoil(frame: U8, rng: np.random.Generator, *, width: float) -> U8:
    """As a worse camera would show a face that is `width` pixels wide; in a third of the cases just other light.

    Else dark with noise, blurred, from further away, or squeezed into a small JPEG; and one in seven without colour.
    """
    light = np.clip((frame / 255) ** np.exp(rng.uniform(-0.4, 0.4)) * rng.uniform(0.7, 1.2), 0, 1) * 255
    match int(rng.integers(6)):
        case 0:
            light = light * rng.uniform(0.1, 0.5) + rng.normal(0, rng.uniform(0, 6), light.shape)
        case 1:
            light = cv2.GaussianBlur(light, (0, 0), rng.uniform(0.005, 0.03) * width)
        case 2:
            few = min(rng.uniform(16, 60) / width, 1.0)
            small = cv2.resize(light, None, fx=few, fy=few, interpolation=cv2.INTER_AREA)
            light = cv2.resize(small, frame.shape[1::-1], interpolation=cv2.INTER_LINEAR)
        case 3:
            coded = cv2.imencode(
                ".jpg", np.clip(light, 0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, int(rng.uniform(8, 40))]
            )[1]
            light = cv2.imdecode(coded, cv2.IMREAD_COLOR)
    worse = np.clip(light, 0, 255).astype(np.uint8)
    if rng.random() < 1 / 7:
        worse = np.repeat(cv2.cvtColor(worse, cv2.COLOR_BGR2GRAY)[..., np.newaxis], 3, axis=2)
    return np.asarray(worse, np.uint8)
