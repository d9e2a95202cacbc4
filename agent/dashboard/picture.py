"""Camera frames as small JPEG pictures, made in a thread, and only while somebody looks."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from functools import partial

import cv2
import numpy as np

from agent.clock import MS, Clock
from agent.imaging import PictureError, encode_jpeg, refuse_no_picture
from agent.types import U8, Frame, Sample
from agent.worker import Worker

EVERY_NS = 100 * MS
"""At least from one picture to the next, of all cameras together."""
SIDE = 480
"""Pixels at most, of the longer side."""
QUALITY = 72
PICTURE = 1
"""Kind of a binary message. Its layout, big endian: version (u8), kind (u8), length of the source's name in bytes
(u16), instant in ms since the Unix epoch (f64), the name in UTF-8, the JPEG."""


class Painter:
    """Hands small pictures of the newest frames to ``show``, as `packet` lays them out.

    ``left_out`` is told of each frame of which no picture can be made.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        wall_ms: Callable[[int], float],
        version: int,
        show: Callable[[str, bytes], None],
        left_out: Callable[[], None],
    ) -> None:
        self._clock = clock
        self._wall_ms = wall_ms
        self._version = version
        self._show = show
        self._left_out = left_out
        self._newest: dict[str, Sample] = {}
        self._more = asyncio.Event()

    def see(self, sample: Sample) -> None:
        """Take in a frame; the one of the same source that still waits gives way."""
        self._newest[sample.source] = sample
        self._more.set()

    async def run(self) -> None:
        """Work until cancelled."""
        worker = Worker("dashboard pictures")  # shrinking and coding a picture takes some milliseconds
        try:
            while True:
                await self._more.wait()
                begin_ns = self._clock.now_ns()
                source = next(iter(self._newest))
                sample = self._newest.pop(source)
                if not self._newest:
                    self._more.clear()
                assert isinstance(sample.payload, Frame)
                bgr = sample.payload.bgr
                try:
                    jpeg = await worker.run(partial(small_jpeg, bgr))
                except PictureError:
                    self._left_out()
                else:
                    self._show(source, self.packet(source, sample.end_ns, jpeg))
                await self._clock.sleep_until(begin_ns + EVERY_NS)
        finally:
            worker.dismiss()

    def packet(self, source: str, t_ns: int, jpeg: bytes) -> bytes:
        """A picture as a binary message, see `PICTURE`."""
        name = source.encode()
        return struct.pack(">BBHd", self._version, PICTURE, len(name), self._wall_ms(t_ns)) + name + jpeg


def small_jpeg(bgr: U8) -> bytes:
    """The picture (H, W, 3) as JPEG, neither side longer than `SIDE` pixels. Raises `PictureError`."""
    refuse_no_picture(bgr)
    height, width = bgr.shape[:2]
    share = SIDE / max(height, width)
    if share < 1:
        size = max(1, round(width * share)), max(1, round(height * share))
        bgr = np.asarray(cv2.resize(bgr, size, interpolation=cv2.INTER_AREA), np.uint8)
    return encode_jpeg(bgr, QUALITY)
