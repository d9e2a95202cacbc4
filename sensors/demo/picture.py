"""Renders the story's picture from one portrait: expression, place, tilt, light, focus and a curtain.

The portrait smiles with an open mouth. Other expressions are made by bending it: the lips are closed by leaving out
what is between them, the corners of the mouth go down, the inner ends of the brows up and the lids a little down; and
by blurring the folds that a smile makes beside the mouth.
Coordinates of the face are those of the 512 x 512 portrait.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from sensors.demo import story
from sensors.demo.speech import RATE_HZ

F32 = npt.NDArray[np.float32]
U8 = npt.NDArray[np.uint8]

WIDTH, HEIGHT, FPS = 640, 480, 15

SCALE = 2
"""The portrait is enlarged by this before it is bent, so that bending does not blur it."""
FACE = (225.0, 125.0)
"""The middle of the face."""
BENT = (slice(60, 200), slice(135, 315))
"""The rows and columns that bending touches."""

# The edges of the lips between which the teeth show: x, the upper lip's lower edge, the lower lip's upper edge.
LIPS = np.array(
    [
        (201, 139.4, 139.4), (203, 139.3, 140.0), (206, 140.2, 143.8), (210, 141.6, 147.0), (214, 142.7, 149.0),
        (219, 143.6, 150.2), (225, 144.0, 150.4), (230, 143.8, 150.2), (234, 143.0, 148.8), (238, 141.8, 146.4),
        (242, 140.6, 143.6), (246, 139.8, 140.6), (249, 139.4, 139.4),
    ]
)  # fmt: skip
MOUTH = (225.0, 145.0)
"""The middle of the mouth; its corners are 22 to either side."""

FOLDS = (((209, 124), (204, 129), (198, 135), (197, 139)), ((238, 122), (243, 128), (249, 135), (251, 141)))
"""The folds that the smile makes from the wings of the nose to beside the mouth."""


class Portrait:
    """The portrait with any expression."""

    def __init__(self, bgr: U8) -> None:
        self._bgr = np.asarray(cv2.resize(bgr, None, fx=SCALE, fy=SCALE, interpolation=cv2.INTER_CUBIC), np.uint8)
        self._smooth = without_folds(self._bgr)
        rows, columns = (slice(part.start * SCALE, part.stop * SCALE) for part in BENT)
        self._part = (rows, columns)
        self._y, self._x = (axis.astype(np.float32) / SCALE for axis in np.mgrid[rows, columns])
        self._bent = lru_cache(maxsize=256)(self._bend)

    def face(self, *, smile: float, opening: float) -> U8:
        """The enlarged portrait; `smile` from -1 (sad) to 1 (as it is), `opening` of the mouth 0..1 (as it is)."""
        bgr = self._bgr.copy()
        bgr[self._part] = self._bent(round(smile * 20), round(opening * 10))
        return np.asarray(bgr, np.uint8)

    def _bend(self, smile_20: int, opening_10: int) -> U8:
        smile, opening = smile_20 / 20, opening_10 / 10
        x, y = corners(self._x, brows_and_lids(self._x, self._y, sadness=max(-smile, 0.0)), drop=1.0 - smile)
        y = lips(x, y, closing=1.0 - opening)
        smoothness = min(1.0 - smile, 1.0)
        bgr = cv2.addWeighted(self._bgr, 1.0 - smoothness, self._smooth, smoothness, 0.0)
        return np.asarray(cv2.remap(bgr, x * SCALE, y * SCALE, cv2.INTER_CUBIC), np.uint8)


def without_folds(bgr: U8) -> U8:
    """The enlarged portrait `bgr` with `FOLDS` blurred."""
    mask = np.zeros(bgr.shape[:2], np.float32)
    for fold in FOLDS:
        cv2.polylines(mask, [np.array(fold, np.int32) * SCALE], isClosed=False, color=1.0, thickness=9)
    share = 0.9 * cv2.GaussianBlur(mask, (0, 0), 4)[..., np.newaxis]
    return np.asarray(bgr * (1 - share) + cv2.GaussianBlur(bgr, (0, 0), 9) * share, np.uint8)


def bump(x: F32, y: F32, *, middle: tuple[float, float], spread: tuple[float, float]) -> F32:
    """A Gaussian hill of height 1 around `middle`."""
    hill = np.exp(-0.5 * (((x - middle[0]) / spread[0]) ** 2 + ((y - middle[1]) / spread[1]) ** 2))
    return np.asarray(hill, np.float32)


def brows_and_lids(x: F32, y: F32, *, sadness: float) -> F32:
    """Where to look up y so that the inner ends of the brows rise, the outer ones sink and the upper lids come down."""
    shift = np.zeros_like(y)
    for inner, outer, eye in (((211, 92), (193, 91), (203, 100)), ((239, 93), (261, 95), (246, 103))):
        above = np.clip((eye[1] + 2 - y) / 4, 0, 1)
        shift += 3.5 * bump(x, y, middle=inner, spread=(7, 6)) - bump(x, y, middle=outer, spread=(7, 6))
        shift -= 1.3 * above * bump(x, y, middle=(eye[0], eye[1] - 3), spread=(9, 4))
    return np.asarray(y + sadness * shift, np.float32)


def corners(x: F32, y: F32, *, drop: float) -> tuple[F32, F32]:
    """Where to look up (x, y) so that the mouth narrows and its corners sink; `drop` 1 is straight, 2 is sad."""
    narrower = 1 + 0.20 * min(drop, 1.0) * bump(x, y, middle=MOUTH, spread=(24, 12))
    x = np.asarray(MOUTH[0] + (x - MOUTH[0]) * narrower, np.float32)
    for side in (-1, 1):
        corner = (MOUTH[0] + side * 21, MOUTH[1])
        y = y - np.float32(drop * 5.5) * bump(x, y, middle=corner, spread=(9, 11))
    return x, y


def lips(x: F32, y: F32, *, closing: float) -> F32:
    """Where to look up y so that the lips meet; the chin comes up with the lower lip, and the nose stays."""
    upper = np.interp(x, LIPS[:, 0], LIPS[:, 1])
    lower = np.interp(x, LIPS[:, 0], LIPS[:, 2])
    seam = upper + 0.4 * (lower - upper)
    above = (seam - upper) * np.clip((y - 130) / (seam - 130), 0, 1)
    below = (lower - seam) * np.clip((190 - y) / (190 - seam), 0, 1) ** 2
    return np.asarray(y + closing * np.where(y <= seam, -above, below), np.float32)


def frames(portrait: U8, sound: F32) -> Iterator[U8]:
    """The pictures of the session in order, (480, 640, 3) BGR; the mouth moves with `sound`, (T,) at `RATE_HZ`."""
    head, rng = Portrait(portrait), np.random.default_rng(11)
    fabric = curtain()
    for index in range(round(story.DURATION_S * FPS)):
        t_s = index / FPS
        smile = story.at(story.SMILE, t_s)
        # At rest the lips are apart in a smile and closed otherwise, and who does not smile opens them less.
        smiling = max(smile, 0.0)
        opening = max(loudness(sound, t_s) * (0.5 + 0.5 * smiling), 0.8 * smiling)
        picture = placed(head.face(smile=smile, opening=opening), t_s)
        picture = focused(picture, story.at(story.BLUR, t_s))
        bottom = round(HEIGHT * story.at(story.CURTAIN, t_s))
        if bottom:
            picture[:bottom] = fabric[HEIGHT - bottom :]
        yield lit(picture, story.at(story.LIGHT, t_s), rng)


def loudness(sound: F32, t_s: float) -> float:
    """How loud the 100 ms around `t_s` are: 0 at -50 dB below full scale, 1 at -20 dB and above."""
    middle = round(t_s * RATE_HZ)
    around = sound[max(middle - RATE_HZ // 20, 0) : middle + RATE_HZ // 20]
    return float(np.clip((20 * np.log10(np.sqrt(np.mean(around**2)) + 1e-9) + 50) / 30, 0, 1))


def placed(face: U8, t_s: float) -> U8:
    """`face` as the camera sees it at `t_s`. A head is never quite still, so it sways by a few pixels."""
    zoom = story.at(story.ZOOM, t_s) / SCALE
    tilt = story.at(story.ROLL, t_s) + 0.6 * np.sin(2 * np.pi * t_s / 3.1)
    matrix = cv2.getRotationMatrix2D((FACE[0] * SCALE, FACE[1] * SCALE), tilt, zoom)
    matrix[0, 2] += story.at(story.ACROSS, t_s) + 4 * np.sin(2 * np.pi * t_s / 4.3) - FACE[0] * SCALE
    matrix[1, 2] += story.at(story.DOWN, t_s) + 3 * np.sin(2 * np.pi * t_s / 2.7) - FACE[1] * SCALE
    return np.asarray(
        cv2.warpAffine(face, matrix, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    )


def focused(picture: U8, sigma: float) -> U8:
    """`picture` with a defocus of `sigma` pixels."""
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), sigma)) if sigma > 0.1 else picture


def lit(picture: U8, light: float, rng: np.random.Generator) -> U8:
    """`picture` under `light`, with the noise that a sensor adds: more of it in the dark, where gain is up."""
    noise = rng.standard_normal((HEIGHT, WIDTH, 1), np.float32) * (1.0 + 2.0 * (1.0 - light))
    return np.asarray(np.clip(picture * light + noise, 0, 255), np.uint8)


def curtain() -> U8:
    """A red curtain in folds, (480, 640, 3), with a dark hem at its lower end."""
    x = np.arange(WIDTH) / WIDTH
    folds = (
        0.65 + 0.25 * np.sin(2 * np.pi * 11 * x + 1.5 * np.sin(2 * np.pi * 2 * x)) + 0.1 * np.sin(2 * np.pi * 29 * x)
    )
    hem = np.where(np.arange(HEIGHT) > HEIGHT - 14, 0.5, 1.0)
    return np.asarray(hem[:, None, None] * folds[None, :, None] * np.array([48, 36, 150]), np.uint8)
