"""One face cut out of a frame, upright, close and grey or wide and in colour, and how well it can be read.

The parts of what is visible are each 0..1 and flat at 1 over what is ordinary, so that their product drops only where
something is wrong. Where they bend was set on pictures from the press (``labels.csv`` of `engines.training.face`) and
on copies of them that were blurred, darkened and shrunk. The other half of a face's quality is how familiar it looks to
the close network (`engines.familiarity`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from agent.types import F64, U8
from engines.detector import Face

SIDE = 64
"""Pixels of a cut-out, each way; what mini-Xception takes."""
MARGIN = 1.1
"""Side of the cut-out in longer sides of the face's box."""
WIDE_SIDE, WIDE_MARGIN = 112, 1.3
"""The same of the wide cut-out: what face-api's expression net takes, which saw faces with hair and chin."""
LIFT = 0.08
"""How far the cut-out is moved towards the forehead, in its sides."""
_LARGEST = 8
"""How many times larger a cut-out may be before it is averaged down."""
_BLURRED, _SHARP = -2.6, -1.5
"""Decimal logarithm of the detail at which sharpness is none and full: pictures from the press have -1.0 to -0.4, and
a Gaussian blur of a 64th of the face takes them to -1.4, of a 32nd to -2.1, of a 20th to -2.5."""


def choose(faces: Sequence[Face], frame: U8) -> Face | None:
    """The face that the camera is most likely about: the largest, where one at the very corner counts half."""
    height, width = frame.shape[:2]
    middle = np.array([width, height]) / 2

    def weight(face: Face) -> float:
        centre = face.box.reshape(2, 2).mean(axis=0)
        offset = np.linalg.norm(np.clip((centre - middle) / middle, -1, 1)) / np.sqrt(2)  # 0..1
        return float(face.width * face.height * (1 - 0.5 * offset))

    return max(faces, key=weight, default=None)


@dataclass(frozen=True, slots=True, eq=False)
class Portrait:
    """One face as the networks take it."""

    grey: U8
    """(SIDE, SIDE), close."""
    wide: U8
    """(WIDE_SIDE, WIDE_SIDE, 3) BGR, with hair and chin."""


def take(frame: U8, face: Face) -> Portrait:
    """Both cut-outs of a face in a frame (H, W, 3) BGR."""
    return Portrait(cut(frame, face), _upright(frame, face, WIDE_SIDE, WIDE_MARGIN))


def cut(frame: U8, face: Face) -> U8:
    """The face as (SIDE, SIDE) grey levels."""
    return np.asarray(cv2.cvtColor(_upright(frame, face, SIDE, MARGIN), cv2.COLOR_BGR2GRAY), dtype=np.uint8)


def _upright(frame: U8, face: Face, out: int, margin: float) -> U8:
    """A square of `margin` times the face's longer side as (out, out, 3) BGR, rolled so that the eyes are level.

    What lies outside the frame repeats its edge.
    """
    matrix, pixels = window(face, out, margin)
    patch = cv2.warpAffine(
        frame,
        matrix,
        (pixels, pixels),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return np.asarray(cv2.resize(patch, (out, out), interpolation=cv2.INTER_AREA), dtype=np.uint8)


def window(face: Face, out: int, margin: float) -> tuple[F64, int]:
    """Where a cut-out lies: (2, 3), from its pixels x, y, 1 to those of the frame; and its side before it is averaged.

    A large face is cut out a whole number of times larger and then averaged down, so that its texture does not turn
    into noise.
    """
    eyes = face.points[1] - face.points[0]
    right = eyes / max(float(np.linalg.norm(eyes)), 1e-6)  # unit vectors of the cut-out's axes, in the frame
    down = np.array([-right[1], right[0]])
    side = margin * max(face.width, face.height)
    centre = face.box.reshape(2, 2).mean(axis=0) - LIFT * side * down
    pixels = int(np.clip(np.ceil(side / (1.5 * out)), 1, _LARGEST)) * out
    step = side / pixels
    corner = centre - (right + down) * step * (pixels - 1) / 2
    return np.column_stack([right * step, down * step, corner]), pixels


def visible(face: Face, grey: U8) -> float:
    """0..1: how well the face can be seen, from its box and points, and from its cut-out (SIDE, SIDE).

    The fourth root of the product of the parts: on spoilt faces that were kept out of the training, a smaller power is
    hardly likelier, and a greater one is less so (docs/fusion.md). What matters more is how familiar the face looks,
    and that says much of the same.
    """
    product = certainty(face.score) * size(face) * pose(face) * exposure(grey) * sharpness(grey)
    return math.sqrt(math.sqrt(product))


def certainty(score: float) -> float:
    """Of the detector: full from 0.8, none at 0.5."""
    return float(np.clip((score - 0.5) / 0.3, 0, 1))


def size(face: Face) -> float:
    """Full from a box of 48 pixels, none at 12: below 48 the cut-out has fewer pixels than the network takes."""
    return float(np.clip((max(face.width, face.height) - 12) / (48 - 12), 0, 1))


def pose(face: Face) -> float:
    """How far the face is turned away (yaw): full while the nose is in the middle half between the eyes.

    None where the nose tip, projected onto the line through the eyes, reaches an eye: half the face is out of sight.
    """
    left, right, nose = face.points[:3]
    eyes = right - left
    span = float(eyes @ eyes)
    if span == 0:
        return 0.0
    turned = abs(2 * float((nose - left) @ eyes) / span - 1)  # 0 in the middle, 1 at an eye
    return float(np.clip((1 - turned) / 0.5, 0, 1))


def exposure(grey: U8) -> float:
    """Full where the face is neither dark nor bright and little of it is clipped.

    By mean level, none under 10 or over 245, full from 50 to 205; by the share of pixels at an end of the scale
    (below 4, above 251), none at 60 %, full under 20 %.
    """
    mean = float(grey.mean())
    level = np.clip(min((mean - 10) / 40, (245 - mean) / 40), 0, 1)
    clipped = float(np.mean((grey < 4) | (grey > 251)))
    return float(level * np.clip((0.6 - clipped) / 0.4, 0, 1))


def sharpness(grey: U8) -> float:
    """How much fine detail the cut-out has: the variance of its Laplacian in variances of its grey levels.

    In a cut-out of fixed size the measure does not depend on the size of the face, nor, as a ratio, on the light
    (Pech-Pacheco 2000, "Diatom autofocusing in brightfield microscopy", for the variance of the Laplacian).
    """
    levels = grey.astype(np.float32)
    variance = float(levels.var())
    if variance < 1:
        return 0.0
    detail = float(cv2.Laplacian(levels, cv2.CV_32F).var()) / variance
    return float(np.clip((np.log10(max(detail, 1e-6)) - _BLURRED) / (_SHARP - _BLURRED), 0, 1))
