"""Far speech: what a voice sounds like some metres away, in a room with an echo. Needs torchaudio.

Two kinds of rooms: one to be trained on, and another, in which what was learnt is measured.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import cache

import numpy as np

from agent.types import AUDIO_RATE_HZ, F32, F64
from engines.training.reference import torchaudio

SOUND_M_S = 343.0
"""Speed of sound at 20 degrees."""
LEAST_HZ = 60.0
"""Below it a response is empty: the images of a source all push the same way, which rooms do not."""
SEED = 1
SHOEBOXES = 64
LONGEST_S = 0.5
"""Where the response of a shoebox ends: what is later is 36 dB below its beginning, or less."""


def far(pcm: F32, response: F32) -> F32:
    """`pcm` (T,) as it is heard through an impulse response (R,): (T + R - 1,).

    Raises `engines.training.reference.TorchaudioError`.
    """
    audio = torchaudio()
    import torch

    heard = audio.functional.fftconvolve(torch.from_numpy(pcm), torch.from_numpy(response))
    return np.asarray(heard.numpy(), np.float32)


def decaying(rng: np.random.Generator) -> F32:
    """A response of noise that decays by 60 dB in 0.2 to 0.8 s (Polack 1988), after the voice itself.

    The voice is 10 dB louder to 8 dB softer than all of its echo, which begins 1 to 10 ms after it and is duller than
    the voice, as walls and air are kinder to low frequencies.
    """
    rt60 = rng.uniform(0.2, 0.8)
    t = np.arange(round(rt60 * AUDIO_RATE_HZ)) / AUDIO_RATE_HZ
    echo = rng.normal(size=len(t)) * 10 ** (-3 * t / rt60)
    echo = _filtered(echo, lambda hz: 1 / np.hypot(1, hz / rng.uniform(2_000, 8_000)))
    echo[: round(rng.uniform(0.001, 0.010) * AUDIO_RATE_HZ)] = 0
    echo *= 10 ** (-rng.uniform(-8, 10) / 20) / np.sqrt(np.square(echo).sum())
    echo[0] = 1
    return echo.astype(np.float32)


@cache
def shoebox(number: int) -> F32:
    """The response of one of `SHOEBOXES` rooms with flat walls, by the method of images (Allen & Berkley 1979).

    9 to 90 m², 2.4 to 3.6 m high, 60 dB down in 0.3 to 0.7 s; voice and microphone at least 1.5 m apart.
    """
    rng = np.random.default_rng([SEED, number])
    size = rng.uniform([3, 3, 2.4], [10, 9, 3.6])
    voice, microphone = (rng.uniform(0.3, size - 0.3) for _ in range(2))
    while np.linalg.norm(voice - microphone) < 1.5:
        voice, microphone = (rng.uniform(0.3, size - 0.3) for _ in range(2))
    surface = 2 * (size[0] * size[1] + size[0] * size[2] + size[1] * size[2])
    # Eyring's formula for the time, solved for what a wall gives back; of pressure that is the root.
    returned = np.exp(-0.161 * size.prod() / (surface * rng.uniform(0.3, 0.7)) / 2)
    reach_m = SOUND_M_S * LONGEST_S
    axes = [images(*lengths, reach_m) for lengths in zip(size, voice, microphone, strict=True)]
    response = np.zeros(round(LONGEST_S * AUDIO_RATE_HZ))
    (x, bounced_x), (y, bounced_y), (z, bounced_z) = axes
    for (dx, nx), (dy, ny) in itertools.product(zip(x, bounced_x, strict=True), zip(y, bounced_y, strict=True)):
        metres = np.sqrt(dx**2 + dy**2 + z**2)
        late = np.rint(metres / SOUND_M_S * AUDIO_RATE_HZ).astype(np.intp)
        there = late < len(response)
        np.add.at(response, late[there], (returned ** (nx + ny + bounced_z) / metres)[there])
    response = _filtered(response, lambda hz: np.where(hz > LEAST_HZ, 1.0, 0.0))
    return np.asarray(response / np.abs(response).max(), np.float32)


def images(length: float, voice: float, microphone: float, reach_m: float) -> tuple[F64, F64]:
    """Along one axis: how far each image of the voice is from the microphone, and how often a wall gave it back."""
    orders = np.arange(-np.ceil(reach_m / length / 2), np.ceil(reach_m / length / 2) + 1)
    away = [np.abs((1 - 2 * p) * voice + 2 * orders * length - microphone) for p in (0, 1)]
    bounced = [np.abs(orders - p) + np.abs(orders) for p in (0, 1)]
    near = np.concatenate(away) < reach_m
    return np.concatenate(away)[near], np.concatenate(bounced)[near]


def _filtered(response: F64, gain: Callable[[F64], F64]) -> F64:
    """`response` (R,), each frequency in Hz times `gain` of it."""
    spectrum = np.fft.rfft(response)
    hz = np.asarray(np.fft.rfftfreq(len(response), 1 / AUDIO_RATE_HZ), np.float64)
    return np.asarray(np.fft.irfft(spectrum * gain(hz), len(response)), np.float64)
