"""Whisper's log-mel spectrogram, in NumPy.

After ``whisper/audio.py`` (``log_mel_spectrogram``) of github.com/openai/whisper and, for the filters, Slaney's
Auditory Toolbox (1998) as librosa's ``filters.mel(htk=False, norm="slaney")`` has it. The filters are computed here.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from agent.types import AUDIO_RATE_HZ, F32, F64

BINS = 80
WINDOW = 400
"""Samples under one analysis window: 25 ms."""
HOP = 160
"""Samples from one frame to the next: 10 ms."""
FLOOR = 1e-10
"""Least power of a band."""
RANGE = 8.0
"""What lies more than this many powers of ten under the loudest band is cut."""


def log_mel(pcm: F32) -> F32:
    """The spectrogram (BINS, T // HOP) of `pcm` (T,), 16 kHz.

    Frame i is centred on sample ``i * HOP``; the sound is mirrored at both ends. Values are
    ``(max(log10 power, peak - RANGE) + 4) / 4`` where peak is the greatest of the clip, so they do not depend on what
    comes before or after. Raises ValueError where `pcm` is shorter than the mirror needs, WINDOW // 2 + 1 samples.
    """
    if len(pcm) <= WINDOW // 2:
        raise ValueError(f"log_mel: {len(pcm)} samples; needs at least {WINDOW // 2 + 1}")
    padded = np.pad(np.asarray(pcm, np.float32), WINDOW // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[:-1:HOP][: len(pcm) // HOP]  # (frames, WINDOW)
    spectrum = np.fft.rfft(frames * _hann(), axis=1)  # (frames, WINDOW / 2 + 1), complex64
    power = np.square(spectrum.real) + np.square(spectrum.imag)
    bands = filters() @ power.T  # (BINS, frames)
    logs = np.log10(np.maximum(bands, np.float32(FLOOR)))
    logs = (np.maximum(logs, logs.max() - np.float32(RANGE)) + np.float32(4)) / np.float32(4)
    return np.ascontiguousarray(logs, np.float32)


@cache
def filters() -> F32:
    """The triangles (BINS, WINDOW // 2 + 1), of unit area in Hz, even on the Slaney scale from 0 to 8 kHz."""
    edges = _hz(np.linspace(0.0, _mel(AUDIO_RATE_HZ / 2), BINS + 2))
    bins = np.linspace(0.0, AUDIO_RATE_HZ / 2, WINDOW // 2 + 1)
    ramps = (bins[None, :] - edges[:, None]) / np.diff(edges, append=np.inf)[:, None]  # rising from edge i to i + 1
    falling = (edges[2:, None] - bins[None, :]) / np.diff(edges)[1:, None]
    triangles = np.clip(np.minimum(ramps[:BINS], falling), 0.0, None)
    return (triangles * (2.0 / (edges[2:] - edges[:-2]))[:, None]).astype(np.float32)


@cache
def _hann() -> F32:
    """Periodic, as ``torch.hann_window`` makes it."""
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)).astype(np.float32)


_LINEAR_HZ = 200.0 / 3
"""Hz per mel up to `_BREAK_HZ`; above it, 27 mels to a factor of 6.4."""
_BREAK_HZ = 1000.0
_BREAK_MEL = _BREAK_HZ / _LINEAR_HZ
_LOG_STEP = np.log(6.4) / 27


def _mel(hz: float) -> float:
    return hz / _LINEAR_HZ if hz < _BREAK_HZ else float(_BREAK_MEL + np.log(hz / _BREAK_HZ) / _LOG_STEP)


def _hz(mel: F64) -> F64:
    return np.where(mel < _BREAK_MEL, mel * _LINEAR_HZ, _BREAK_HZ * np.exp((mel - _BREAK_MEL) * _LOG_STEP))
