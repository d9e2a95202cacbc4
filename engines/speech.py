"""The speech in a window: where it is, how much, and how well it can be heard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from agent.types import AUDIO_RATE_HZ, F32
from engines.prosody import level_db
from engines.vad import CHUNK_NS, Chunk

LEAST_NS = 500_000_000
"""Less speech than this in a window says nothing."""
PAUSE = 10
"""Chunks (0.32 s): a shorter pause belongs to the speech around it."""
CLIP = 0.99
"""Samples at this level count as clipped."""
CLIPPED = 0.1
"""With this share of clipped samples, half of the quality is left."""


@dataclass(frozen=True, slots=True, eq=False)
class Speech:
    """The speech in a window of one source."""

    pcm: F32
    """(T,), its stretches one behind the other."""
    ends_ns: npt.NDArray[np.int64]
    """(n,), when each of its chunks of 32 ms ended, pauses not counted, oldest first."""
    over: bool
    """Whether a pause longer than `PAUSE` follows it."""
    quality: float
    """0..1: how well it can be heard."""

    @property
    def end_ns(self) -> int:
        """When the newest of it was produced."""
        return int(self.ends_ns[-1])

    @property
    def seconds(self) -> float:
        """How much of it is speech, pauses not counted."""
        return len(self.ends_ns) * CHUNK_NS / 1e9

    def seconds_after(self, instant_ns: int) -> float:
        """How much of it is newer."""
        return int((self.ends_ns > instant_ns).sum()) * CHUNK_NS / 1e9


def find_speech(chunks: Sequence[Chunk], *, since_ns: int) -> Speech | None:
    """The speech in those of `chunks` that begin no earlier than `since_ns`; None if it is less than `LEAST_NS`.

    The older chunks are looked at for the noise floor only.
    """
    window = [chunk for chunk in chunks if chunk.t_ns >= since_ns]
    spoken = [i for i, chunk in enumerate(window) if chunk.speech]
    if len(spoken) * CHUNK_NS < LEAST_NS:
        return None
    keep = set(spoken)
    for left, right in pairwise(spoken):
        if right - left <= PAUSE:
            keep.update(range(left, right))
    return Speech(
        pcm=np.concatenate([window[i].pcm for i in sorted(keep)]),
        ends_ns=np.array([window[i].end_ns for i in spoken], np.int64),
        over=len(window) - 1 - spoken[-1] > PAUSE,
        quality=quality(np.concatenate([window[i].pcm for i in spoken]), noise_db(chunks)),
    )


def noise_db(chunks: Sequence[Chunk]) -> float:
    """The noise floor in dB below full scale: the level that a tenth of the chunks stay under (speech has pauses)."""
    return level_db(np.quantile([chunk.level for chunk in chunks], 0.1, keepdims=True).astype(np.float32))


def quality(voice: F32, floor_db: float) -> float:
    """0..1: how far `voice` (T,) stands out of the noise, times how little it is clipped, times how long it is.

    Full marks from 20 dB above the floor, without a clipped sample, at two seconds; none at 0 dB. The fourth root of
    the product, as in `engines.portrait.visible`: familiarity sees much of the same (`engines.familiarity`).
    """
    snr = np.clip((level_db(voice) - floor_db) / 20, 0.0, 1.0)
    clean = CLIPPED / (CLIPPED + np.mean(np.abs(voice) >= CLIP))
    length = min(1.0, float(np.sqrt(len(voice) / (2 * AUDIO_RATE_HZ))))
    return float((snr * clean * length) ** 0.25)
