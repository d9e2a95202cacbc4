"""torchaudio: whether it loads, and the features that voices are read by checked against its own.

Its compiled part fits one build of torch: that of PyPI wants CUDA's libraries, and torch built for the same CUDA, and
does not load beside a CPU build or a newer torch; torchaudio then does not either. Where that is so, what needs it is
left out, and said. All that is used of it is written in Python.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import soxr

from agent.types import AUDIO_RATE_HZ, F32
from engines.mel import BINS, FLOOR, HOP, RANGE, WINDOW, filters, log_mel

INSTALL = (
    "install both of one build: pip install 'torch==2.11.*' 'torchaudio==2.11.*', for the CPU with"
    " --index-url https://download.pytorch.org/whl/cpu"
)
STUDIO_HZ = 48_000
"""Rate from which resampling is checked."""
_SHARP = {"lowpass_filter_width": 64, "rolloff": 0.9476, "resampling_method": "sinc_interp_kaiser", "beta": 14.77}
"""Of torchaudio's resampling: what its documentation names as librosa's ``kaiser_best``."""


class TorchaudioError(Exception):
    """It is not there, or does not load. The message says why, and what to install."""


def torchaudio() -> Any:
    """The package. Raises `TorchaudioError`."""
    try:
        return importlib.import_module("torchaudio")
    except (ImportError, OSError, RuntimeError) as error:  # the last two: its compiled part and torch do not fit
        reason = f"{type(error).__name__}: {error.__cause__ or error}"
        raise TorchaudioError(f"torchaudio does not load ({reason}); {INSTALL}") from error


@dataclass(frozen=True, slots=True)
class Difference:
    """Of one feature from what torchaudio makes of the same."""

    what: str
    found: float
    """The greatest difference that was found."""
    allowed: float

    @property
    def holds(self) -> bool:
        return self.found <= self.allowed

    def __str__(self) -> str:
        return f"{self.what}: differs by {self.found:.2g}, allowed {self.allowed:g}{'' if self.holds else ' - NO'}"


def compare(sounds: Sequence[F32]) -> list[Difference]:
    """What the run-time makes of `sounds`, each (T,) at 16 kHz, and torchaudio. Raises `TorchaudioError`."""
    audio = torchaudio()
    bank = audio.functional.melscale_fbanks(
        WINDOW // 2 + 1, 0.0, AUDIO_RATE_HZ / 2, BINS, AUDIO_RATE_HZ, norm="slaney", mel_scale="slaney"
    )
    apart = np.abs(bank.numpy().T - filters()).max() / filters().max()
    mels = [float(np.abs(_log_mel(audio, pcm) - log_mel(pcm)).max()) for pcm in sounds]
    rates = [_resampled_apart(audio, pcm) for pcm in sounds]
    return [
        Difference("mel filters, as a share of the highest value", float(apart), 1e-5),
        Difference("log-mel spectrogram, in units of four decades", max(mels), 1e-3),
        Difference(f"resampling from {STUDIO_HZ} Hz, as a share of the sound", max(rates), 0.02),
    ]


def _log_mel(audio: Any, pcm: F32) -> F32:
    """Whisper's spectrogram (BINS, T // HOP) from torchaudio's."""
    import torch

    transform = audio.transforms.MelSpectrogram(
        AUDIO_RATE_HZ, WINDOW, hop_length=HOP, n_mels=BINS, norm="slaney", mel_scale="slaney"
    )
    power = transform(torch.from_numpy(pcm)).numpy()[:, : len(pcm) // HOP]
    logs = np.log10(np.maximum(power, FLOOR))
    return np.asarray((np.maximum(logs, logs.max() - RANGE) + 4) / 4, np.float32)


def _resampled_apart(audio: Any, pcm: F32) -> float:
    """Root mean square of what differs in `pcm`, brought up and down again, from torchaudio's, over that of `pcm`."""
    import torch

    high = soxr.resample(pcm, AUDIO_RATE_HZ, STUDIO_HZ)
    ours = soxr.resample(high, STUDIO_HZ, AUDIO_RATE_HZ)
    theirs = audio.functional.resample(torch.from_numpy(high), STUDIO_HZ, AUDIO_RATE_HZ, **_SHARP).numpy()
    n = min(len(ours), len(theirs))
    return float(np.sqrt(np.mean(np.square(ours[:n] - theirs[:n])) / np.mean(np.square(pcm))))
