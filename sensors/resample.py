"""Sound at any rate to sound at `AUDIO_RATE_HZ`, block by block, without losing its place in time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import soxr

from agent.clock import SECOND
from agent.types import AUDIO_RATE_HZ, F32


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """What a block became."""

    pcm: F32
    """(T,), at `AUDIO_RATE_HZ`, within -1..1; may be empty while the filter fills, and is then longer once."""
    begin_ns: int
    """Stream time of its first sample: count over rate."""
    end_ns: int
    """Stream time at which its last sample ends; the next piece begins there."""


class Resampler:
    """Streaming resampling with soxr; sound that has our rate already stays as it is.

    What exceeds full scale is clipped to it: devices and files of floats may say anything, and one value of 1e38 would
    smear over all that follows.

    soxr's output begins at the instant of its input, it is only handed out later; so the place of a sample in time is
    its count, with no delay to correct for.
    """

    def __init__(self, rate_hz: int, *, origin_ns: int = 0) -> None:
        self._origin_ns = origin_ns
        self._count = 0
        self._soxr = None if rate_hz == AUDIO_RATE_HZ else soxr.ResampleStream(rate_hz, AUDIO_RATE_HZ, 1, "float32")

    def feed(self, pcm: F32, *, last: bool = False) -> Piece:
        """Take in (T,), finite, at the stream's rate; with `last` hand out what was held back."""
        out = np.clip(pcm, -1, 1)
        if self._soxr is not None:  # whose filter overshoots
            out = np.clip(np.asarray(self._soxr.resample_chunk(out, last=last), np.float32), -1, 1)
        begin = self._count
        self._count += len(out)
        return Piece(out, begin_ns=self._at(begin), end_ns=self._at(self._count))

    def _at(self, count: int) -> int:
        return self._origin_ns + count * SECOND // AUDIO_RATE_HZ
