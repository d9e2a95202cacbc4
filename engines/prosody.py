"""How something is said, in four numbers: spectral tilt, pitch, voicing and level.

Arousal shows as a flatter spectrum and a higher pitch in every language looked at; the range of the pitch says
nothing (see Banse & Scherer 1996, "Acoustic profiles in vocal emotion expression", for why tilt).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from agent.types import AUDIO_RATE_HZ, F32

FRAME = 640
"""Samples under one analysis window: 40 ms, more than two periods of the lowest pitch."""
HOP = 320
"""20 ms."""
PITCH_HZ = (60.0, 500.0)
"""Lowest and highest pitch that is looked for: a deep man's voice to a shout."""
LOW_HZ = (50.0, 1000.0)
HIGH_HZ = (1000.0, 5000.0)
VOICED = 0.5
"""A frame is voiced where its autocorrelation at one period is more than this share of that at none."""
OCTAVE_COST = 0.05
"""What a lag loses for each octave: a sound of one period is also one of two (Boersma 1993)."""
SILENCE = 1e-10
"""Added to powers, full scale being 1: -100 dB."""


@dataclass(frozen=True, slots=True)
class Prosody:
    """Of a stretch of speech."""

    tilt: float
    """log10 of the power from 1 to 5 kHz over that from 50 Hz to 1 kHz; about -3 (soft) .. 0 (shouted)."""
    pitch: float
    """Median over the voiced frames, in octaves above 100 Hz; 0 where none is voiced."""
    voiced: float
    """Share of voiced frames, 0..1."""
    level_db: float
    """Root mean square, in dB below full scale; -100 for digital silence."""


def measure(pcm: F32) -> Prosody:
    """The prosody of `pcm` (T,), 16 kHz, at least FRAME long (else ValueError)."""
    if len(pcm) < FRAME:
        raise ValueError(f"prosody: {len(pcm)} samples; needs at least {FRAME}")
    frames = np.lib.stride_tricks.sliding_window_view(np.asarray(pcm, np.float32), FRAME)[::HOP]  # (n, FRAME)
    # Twice the length: the product of spectra is then a correlation that does not wrap round.
    spectra = np.fft.rfft(frames * np.hanning(FRAME).astype(np.float32), 2 * FRAME, axis=1)
    powers = np.square(spectra.real) + np.square(spectra.imag)  # (n, FRAME + 1)
    total = powers.sum(axis=0, dtype=np.float64)
    pitches = _pitches(powers)
    return Prosody(
        tilt=float(np.log10((_band(total, HIGH_HZ) + SILENCE) / (_band(total, LOW_HZ) + SILENCE))),
        pitch=float(np.log2(np.median(pitches) / 100)) if len(pitches) else 0.0,
        voiced=len(pitches) / len(frames),
        level_db=level_db(pcm),
    )


def level_db(pcm: F32) -> float:
    """Root mean square of `pcm`, in dB below full scale, at least -100."""
    return float(10 * np.log10(np.mean(np.square(pcm, dtype=np.float64)) + SILENCE))


def _band(power: np.ndarray, edges: tuple[float, float]) -> float:
    low, high = (round(edge * 2 * FRAME / AUDIO_RATE_HZ) for edge in edges)
    return float(power[low:high].sum())


def _pitches(powers: F32) -> F32:
    """Pitch in Hz of each voiced frame: the greatest autocorrelation, over that of the window (Boersma 1993)."""
    window = np.fft.irfft(np.square(np.abs(np.fft.rfft(np.hanning(FRAME), 2 * FRAME))))
    shortest, longest = (round(AUDIO_RATE_HZ / hz) for hz in PITCH_HZ[::-1])
    correlation = np.fft.irfft(powers, axis=1)[:, : longest + 1] / (window / window[0])[: longest + 1].astype(
        np.float32
    )
    correlation /= correlation[:, :1] + np.float32(SILENCE)
    cost = (OCTAVE_COST * np.log2(np.arange(shortest, longest + 1))).astype(np.float32)
    lags = shortest + (correlation[:, shortest:] - cost).argmax(axis=1)
    voiced = correlation[np.arange(len(lags)), lags] > VOICED
    return np.asarray(AUDIO_RATE_HZ / lags[voiced], np.float32)
