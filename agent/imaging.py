"""Pictures as JPEG and PNG. OpenCV takes time to load: who may never code a picture imports this when it must."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from agent.types import U8

PNG_EFFORT = 1
"""0..9: 1 is three times as quick as 3 and hardly larger on camera noise."""


class PictureError(ValueError):
    """No such file can be made of a picture."""


def refuse_no_picture(bgr: U8) -> None:
    """Raise `PictureError` where it is not (H, W, 3) of bytes, or has no pixels."""
    if bgr.dtype != np.uint8 or bgr.ndim != 3 or bgr.shape[2] != 3 or not bgr.size:
        raise PictureError(f"a picture is (H, W, 3) of uint8; found {bgr.shape} of {bgr.dtype}")


def encode_jpeg(bgr: U8, quality: int) -> bytes:
    """The picture (H, W, 3), of that quality, 0..100. Raises `PictureError`, also for sides of more than 65,500."""
    return _encoded(bgr, ".jpg", (cv2.IMWRITE_JPEG_QUALITY, quality))


def encode_png(bgr: U8) -> bytes:
    """The picture (H, W, 3), bit by bit. Raises `PictureError`."""
    return _encoded(bgr, ".png", (cv2.IMWRITE_PNG_COMPRESSION, PNG_EFFORT))


def _encoded(bgr: U8, suffix: str, options: Sequence[int]) -> bytes:
    refuse_no_picture(bgr)
    done, data = cv2.imencode(suffix, bgr, options)
    if not done:
        raise PictureError(f"no {suffix} can be made of a picture of {bgr.shape[1]} x {bgr.shape[0]} pixels")
    return data.tobytes()
