"""Sound as a page draws it: level and spectrogram."""

from __future__ import annotations

import base64
from collections import deque

import numpy as np

from agent.types import AUDIO_RATE_HZ, F32

FRAME = 1_024
"""Samples under one window of the transform: 64 ms, 15.6 Hz a bin."""
HOP = 800
"""Samples from one column to the next: 20 columns a second."""
BANDS = 48
LOWEST_HZ, HIGHEST_HZ = 60.0, 7_600.0
FLOOR_DB, CEILING_DB = -80.0, -10.0
"""Of a band, in dB below full scale: what a column gives as 0 and as 255."""
SILENCE_DB = -100.0


def _mel(hz: float) -> float:
    """Slaney's formula would do as well; this is O'Shaughnessy's, 2595 log10(1 + f / 700)."""
    return float(2595.0 * np.log10(1.0 + hz / 700.0))


def _bands() -> F32:
    """(FRAME // 2 + 1, BANDS): triangles that overlap by half, evenly spaced in mel, each with a sum of 1."""
    edges_hz = 700.0 * (10 ** (np.linspace(_mel(LOWEST_HZ), _mel(HIGHEST_HZ), BANDS + 2) / 2595.0) - 1.0)
    bins_hz = np.fft.rfftfreq(FRAME, 1 / AUDIO_RATE_HZ)[:, None]
    low, mid, high = edges_hz[:-2], edges_hz[1:-1], edges_hz[2:]
    width_hz = AUDIO_RATE_HZ / FRAME  # a triangle narrower than a bin would fall between two
    up = (bins_hz - np.minimum(low, mid - width_hz)) / np.maximum(mid - low, width_hz)
    down = (np.maximum(high, mid + width_hz) - bins_hz) / np.maximum(high - mid, width_hz)
    weights = np.maximum(0.0, np.minimum(up, down))
    return np.asarray(weights / weights.sum(axis=0), np.float32)


class Ear:
    """Collects the sound of one source until somebody asks for it; keeps the newest `KEEP` samples."""

    KEEP = AUDIO_RATE_HZ

    def __init__(self) -> None:
        self._window = np.hanning(FRAME).astype(np.float32)
        self._bands = _bands()
        self._blocks: deque[F32] = deque()
        self._waiting = 0
        self._tail = np.zeros(FRAME - HOP, np.float32)

    def hear(self, pcm: F32) -> None:
        """Take in a block, (T,)."""
        self._blocks.append(pcm)
        self._waiting += len(pcm)
        while self._waiting - len(self._blocks[0]) >= self.KEEP:
            self._waiting -= len(self._blocks.popleft())

    def take(self) -> tuple[float, float, str] | None:
        """RMS and peak in dB below full scale, and the new columns, in base64, a byte a band, lowest band first.

        None while there is not yet enough for a column.
        """
        if self._waiting < HOP:
            return None
        pcm = np.concatenate(list(self._blocks))
        whole = len(pcm) // HOP * HOP
        self._blocks = deque([pcm[whole:]])
        self._waiting = len(pcm) - whole
        heard = pcm[:whole]
        sound = np.concatenate([self._tail, heard])
        self._tail = sound[-(FRAME - HOP) :]
        frames = np.lib.stride_tricks.sliding_window_view(sound, FRAME)[::HOP] * self._window  # (columns, FRAME)
        power = np.square(np.abs(np.fft.rfft(frames))) / np.square(self._window.sum() / 2)  # a full sine is 1
        db = 10 * np.log10(power @ self._bands + 1e-12)
        scaled = np.clip((db - FLOOR_DB) / (CEILING_DB - FLOOR_DB), 0, 1) * 255
        columns = base64.b64encode(scaled.astype(np.uint8).tobytes()).decode()
        return _db(float(np.sqrt(np.mean(np.square(heard))))), _db(float(np.abs(heard).max())), columns


def _db(amplitude: float) -> float:
    return round(max(SILENCE_DB, 20 * float(np.log10(amplitude + 1e-9))), 1)
