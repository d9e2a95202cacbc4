"""BlazeFace: where the faces of a frame are, with six key points each.

The networks are MediaPipe's (model card "MediaPipe BlazeFace", Apache-2.0), converted by `engines.convert.tflite`.
Decoding follows Bazarevsky et al., "BlazeFace: Sub-millisecond Neural Face Detection on Mobile GPUs" (2019), and the
graph of MediaPipe: anchors of size 1 at the centres of the cells, sigmoid of clipped logits, weighted NMS.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numpy as np
import numpy.typing as npt

from agent.types import F32, U8, Region, Sample
from engines import Engine, EngineError

Floats = npt.NDArray[np.floating[Any]]

MIN_SCORE = 0.65
"""A face is what scores at least this. MediaPipe's threshold is 0.5; with that the network for far faces saw one in 28
of 100 pictures without people, with this in 1 (``python -m engines.training.scenes --min-score 0.5``)."""
SAME_FACE_IOU = 0.3
"""Boxes that overlap by more than this are one face (MediaPipe's threshold)."""
LOGIT_LIMIT = 80.0
"""Logits are clipped to ±this, so that exp stays finite in float32."""

_GRIDS = {192: ((4, 1),), 128: ((8, 2), (16, 6)), 256: ((16, 2), (32, 6))}
"""(stride, anchors per cell) by the side of the input: full range, short range, back camera."""


@dataclass(frozen=True, slots=True, eq=False)
class Face:
    """One face in a frame, in pixels of the frame; may reach beyond its edges."""

    box: F32
    """(4,): left, top, right, bottom."""
    points: F32
    """(6, 2) x, y: image-left eye, image-right eye, nose tip, mouth, image-left ear, image-right ear."""
    score: float
    """Probability of a face, 0..1."""

    @property
    def width(self) -> float:
        return float(self.box[2] - self.box[0])

    @property
    def height(self) -> float:
        return float(self.box[3] - self.box[1])

    def region(self, sample: Sample, frame: U8) -> Region:
        """Where it is in `frame` (H, W, 3), which is what `sample` shows."""
        size = np.array([frame.shape[1], frame.shape[0]], np.float64)
        left, top, right, bottom = (self.box.reshape(2, 2) / size).ravel().tolist()
        points = tuple((x, y) for x, y in (self.points / size).tolist())
        return Region(sample.source, sample.end_ns, (left, top, right, bottom), points)


class FaceFinder(Protocol):
    """Finds the faces of frames; `Detector` with one network, `Cascade` with several."""

    @property
    def backend(self) -> str:
        """Of the engine that runs it."""

    def detect(self, frames: Sequence[U8]) -> list[list[Face]]:
        """The faces of each frame (H, W, 3) BGR, most certain first; a list per frame, empty where there is none."""

    def close(self) -> None: ...


class Detector:
    """One BlazeFace network.

    Frames are scaled into the middle of a black square (letterbox), with a black border of `border` times the frame's
    longer side on each side: a face that fills the frame is beyond what the networks learnt, and the border makes it
    smaller. Faces narrower than the share `least` of the frame's longer side are not reported: at the end of its range
    a network still sees that there is a face, but no longer where its eyes are.
    """

    def __init__(
        self, engine: Engine, *, border: float = 0.0, least: float = 0.0, min_score: float = MIN_SCORE
    ) -> None:
        """Raises `EngineError` where `engine` is no BlazeFace: by the input's side, or the number of anchors."""
        shape = engine.inputs[0].shape
        side = shape[1] if len(shape) == 4 else None
        if not isinstance(side, int) or side not in _GRIDS or shape[1:] != (side, side, 3):
            raise EngineError(f"{engine}: a face detector takes [batch, S, S, 3] with S of {sorted(_GRIDS)}")
        self._engine = engine
        self._side = side
        self._border = border
        self._least = least
        self._min_score = min_score
        self._anchors = _anchors(side)
        outputs = {tensor.shape[-1]: tensor for tensor in engine.outputs}
        if set(outputs) != {1, 16} or outputs[16].shape[1] != len(self._anchors):
            raise EngineError(
                f"{engine}: a face detector of side {side} gives [batch, {len(self._anchors)}, 16] boxes with points"
                " and as many logits"
            )
        self._regressions, self._logits = outputs[16].name, outputs[1].name

    @property
    def backend(self) -> str:
        return self._engine.backend

    def detect(self, frames: Sequence[U8]) -> list[list[Face]]:
        if not frames:
            return []
        batch = np.full((len(frames), self._side, self._side, 3), -1, np.float32)  # black
        letters = [self._letter(frame, into=batch[i]) for i, frame in enumerate(frames)]
        outputs = self._engine.infer({self._engine.inputs[0].name: batch})
        regressions, logits = outputs[self._regressions], outputs[self._logits][..., 0]
        found = [self._decode(regressions[i], logits[i], *letters[i]) for i in range(len(frames))]
        return [
            [face for face in faces if face.width >= self._least * max(frame.shape[:2])]
            for frame, faces in zip(frames, found, strict=True)
        ]

    def close(self) -> None:
        self._engine.close()

    def __str__(self) -> str:
        return f"faces, border {self._border:.0%}: {self._engine}"

    def _letter(self, frame: U8, *, into: F32) -> tuple[float, float, float]:
        """Scale `frame` into `into` (S, S, 3) as RGB in -1..1; returns the scale and where its corner came to lie."""
        height, width = frame.shape[:2]
        scale = self._side / (max(height, width) * (1 + 2 * self._border))
        w, h = max(round(width * scale), 1), max(round(height * scale), 1)
        x, y = (self._side - w) // 2, (self._side - h) // 2
        part = into[y : y + h, x : x + w]
        np.multiply(cv2.cvtColor(_shrink(frame, w, h), cv2.COLOR_BGR2RGB), np.float32(1 / 127.5), out=part)
        part -= 1
        return scale, float(x), float(y)

    def _decode(self, regressions: F32, logits: F32, scale: float, x: float, y: float) -> list[Face]:
        scores = 1 / (1 + np.exp(-np.clip(logits, -LOGIT_LIMIT, LOGIT_LIMIT)))
        likely = np.flatnonzero(scores >= self._min_score)
        if not len(likely):
            return []
        raw = regressions[likely].reshape(-1, 8, 2)  # centre, size, six points; in pixels of the square
        anchors = self._anchors[likely]
        centre, half, points = raw[:, 0] + anchors, raw[:, 1] / 2, raw[:, 2:] + anchors[:, np.newaxis]
        corners = np.concatenate([(centre - half)[:, np.newaxis], (centre + half)[:, np.newaxis], points], axis=1)
        sound = (half > 0).all(axis=1)
        corners, scores = corners[sound], scores[likely][sound]
        corners = (corners - np.array([x, y], np.float32)) / np.float32(scale)  # to pixels of the frame
        return [Face(box=face[:2].reshape(4), points=face[2:], score=score) for face, score in merge(corners, scores)]


class Cascade:
    """Several detectors, each asked about the frames in which those before it found nothing.

    So a near face, which is what a kiosk sees, costs one small network, and the dearer one for far faces runs only
    where it is needed.
    """

    def __init__(self, detectors: Sequence[FaceFinder]) -> None:
        self._detectors = tuple(detectors)

    @property
    def backend(self) -> str:
        return self._detectors[0].backend

    def detect(self, frames: Sequence[U8]) -> list[list[Face]]:
        found: list[list[Face]] = [[] for _ in frames]
        for detector in self._detectors:
            empty = [i for i, faces in enumerate(found) if not faces]
            for i, faces in zip(empty, detector.detect([frames[i] for i in empty]), strict=True):
                found[i] = faces
        return found

    def close(self) -> None:
        for detector in self._detectors:
            detector.close()


def _shrink(frame: U8, width: int, height: int) -> U8:
    """Scale a frame down (or up) to width x height."""
    if width >= frame.shape[1]:
        return np.asarray(cv2.resize(frame, (width, height), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)
    if 4 * width < frame.shape[1]:
        # Averaging over every pixel of a large frame costs as much as the network; four well spread ones suffice.
        frame = np.asarray(cv2.resize(frame, (2 * width, 2 * height), interpolation=cv2.INTER_LINEAR), dtype=np.uint8)
    return np.asarray(cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)


def merge(faces: Floats, scores: Floats) -> list[tuple[F32, float]]:
    """Weighted non-maximum suppression of (N, 8, 2) faces: left top, right bottom, six points.

    Of the faces that overlap the most certain one by more than `SAME_FACE_IOU` it makes one: their mean weighted by
    score, with the best score. Most certain first.
    """
    order = np.argsort(-scores, kind="stable")
    merged: list[tuple[F32, float]] = []
    while len(order):
        same = _overlap(faces[order[0]], faces[order]) > SAME_FACE_IOU
        same[0] = True
        group = order[same]
        mean = np.average(faces[group], axis=0, weights=scores[group])
        merged.append((np.asarray(mean, dtype=np.float32), float(scores[group[0]])))
        order = order[~same]
    return merged


def _overlap(face: Floats, others: Floats) -> Floats:
    """Intersection over union of the box of one face (8, 2) with those of others (N, 8, 2); (N,)."""
    low, high = np.maximum(face[0], others[:, 0]), np.minimum(face[1], others[:, 1])
    common = np.prod(np.maximum(high - low, 0), axis=1)
    areas = np.prod(others[:, 1] - others[:, 0], axis=1) + np.prod(face[1] - face[0])
    return np.asarray(common / (areas - common))


def _anchors(side: int) -> F32:
    """(N, 2) x, y of the anchors in pixels of the square: row by row, those of one cell together."""
    layers = []
    for stride, count in _GRIDS[side]:
        centres = (np.arange(side // stride, dtype=np.float32) + 0.5) * stride
        y, x = np.meshgrid(centres, centres, indexing="ij")
        layers.append(np.repeat(np.stack([x.ravel(), y.ravel()], axis=1), count, axis=0))
    return np.concatenate(layers)
