"""Kinds of harm, each in three grades, that an input may have come to, to see whether its quality tells.

Nothing is fitted to them. The sources of chance are given, so that a run can be repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import cv2
import numpy as np
from scipy.signal import fftconvolve

from agent.types import AUDIO_RATE_HZ, F32, U8
from engines.evaluation.spoil import LOST, SNR_DB, mistyped, pink

GRADES = (0, 1, 2)
Rng = np.random.Generator


def _blurred(frame: U8, grade: int, rng: Rng) -> U8:
    """By a Gaussian of 2, 4 and 8 % of the width."""
    return np.asarray(cv2.GaussianBlur(frame, (0, 0), (0.02, 0.04, 0.08)[grade] * frame.shape[1]), np.uint8)


def _dark(frame: U8, grade: int, rng: Rng) -> U8:
    """A fifth, a tenth and a twentieth of the light, with the sensor's noise."""
    return _levels(frame * (0.2, 0.1, 0.05)[grade] + rng.normal(0, 4, frame.shape))


def _glaring(frame: U8, grade: int, rng: Rng) -> U8:
    """1.8, 2.6 and 4 times the light, and more."""
    return _levels(frame * (1.8, 2.6, 4.0)[grade] + (20, 40, 60)[grade])


def _grainy(frame: U8, grade: int, rng: Rng) -> U8:
    """Noise of deviation 15, 35 and 70."""
    return _levels(frame + rng.normal(0, (15, 35, 70)[grade], frame.shape))


def _scarfed(frame: U8, grade: int, rng: Rng) -> U8:
    """The lower 35, 45 and 55 % in grey, as by a hand or a scarf."""
    hidden = frame.copy()
    hidden[round(len(frame) * (0.65, 0.55, 0.45)[grade]) :] = 110
    return hidden


def _behind(frame: U8, grade: int, rng: Rng) -> U8:
    """A square of 25, 35 and 45 % of the width, anywhere near the middle, of one colour."""
    hidden, width = frame.copy(), frame.shape[1]
    side = round(width * (0.25, 0.35, 0.45)[grade])
    top, left = np.clip(rng.uniform(0.25, 0.75, 2) * width - side / 2, 0, width - side).astype(int)
    hidden[top : top + side, left : left + side] = rng.integers(0, 256, 3)
    return hidden


def _halved(frame: U8, grade: int, rng: Rng) -> U8:
    """The left 42, 50 and 58 % in one colour."""
    hidden = frame.copy()
    hidden[:, : round(frame.shape[1] * (0.42, 0.5, 0.58)[grade])] = rng.integers(0, 256, 3)
    return hidden


def _small(frame: U8, grade: int, rng: Rng) -> U8:
    """40, 28 and 20 pixels wide, in the middle of grey."""
    side = (40, 28, 20)[grade]
    far = cv2.resize(frame, (side, side), interpolation=cv2.INTER_AREA)
    edge = 2 * side
    return np.asarray(cv2.copyMakeBorder(far, edge, edge, edge, edge, cv2.BORDER_CONSTANT, value=(110,) * 3), np.uint8)


def _levels(light: np.ndarray) -> U8:
    return np.asarray(np.clip(light, 0, 255), np.uint8)


def _in_noise(pcm: F32, grade: int, rng: Rng) -> F32:
    """Pink, 20, 10 and 0 dB below."""
    return _sound(pcm + pink(len(pcm), rng) * _loudness(pcm) * 10 ** (-SNR_DB[grade] / 20))


def _in_hiss(pcm: F32, grade: int, rng: Rng) -> F32:
    """White, 20, 10 and 0 dB below."""
    return _sound(pcm + rng.standard_normal(len(pcm)) * _loudness(pcm) * 10 ** (-SNR_DB[grade] / 20))


def _clipped(pcm: F32, grade: int, rng: Rng) -> F32:
    """4, 12 and 40 times too loud."""
    return _sound(np.clip(pcm / max(np.abs(pcm).max(), 1e-9) * (4, 12, 40)[grade], -1, 1))


def _far(pcm: F32, grade: int, rng: Rng) -> F32:
    """In a room: an echo that falls by 60 dB in 0.4, 0.7 and 1 s, as loud as the voice, 5 and 10 dB louder.

    An echo is white noise that dies away (Polack 1988); and there is pink noise 20 dB below.
    """
    seconds, louder_db = (0.4, 0.7, 1.0)[grade], (0, 5, 10)[grade]
    t = np.arange(round(seconds * AUDIO_RATE_HZ)) / AUDIO_RATE_HZ
    room = rng.standard_normal(len(t)) * 10 ** (-3 * t / seconds)
    room[: AUDIO_RATE_HZ // 400] = 0  # nothing comes back within 2.5 ms
    room *= 10 ** (louder_db / 20) / np.sqrt(np.sum(room**2))
    room[0] = 1
    heard = fftconvolve(pcm, room)[: len(pcm) + AUDIO_RATE_HZ // 4]
    heard *= 0.03 / max(_loudness(heard), 1e-9)
    return _sound(heard + pink(len(heard), rng) * _loudness(heard) * 0.1)


def _short(pcm: F32, grade: int, rng: Rng) -> F32:
    """1.2, 0.9 and 0.65 s of it."""
    length = round((1.2, 0.9, 0.65)[grade] * AUDIO_RATE_HZ)
    start = int(rng.integers(max(1, len(pcm) - length)))
    return pcm[start : start + length]


def _torn(pcm: F32, grade: int, rng: Rng) -> F32:
    """Of stretches of 50 ms a tenth, a quarter and half are lost."""
    heard = pcm.copy()
    for start in range(0, len(pcm), AUDIO_RATE_HZ // 20):
        if rng.random() < (0.1, 0.25, 0.5)[grade]:
            heard[start : start + AUDIO_RATE_HZ // 20] = 0
    return heard


def _sound(pcm: np.ndarray) -> F32:
    return np.asarray(pcm, np.float32)


def _loudness(pcm: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(pcm, dtype=np.float64))))


def _misspelt(text: str, grade: int, rng: Rng) -> str:
    """A tenth, a quarter and half of the letters left out or taken for others."""
    return "".join(c if not c.isalpha() or rng.random() >= LOST[grade] else mistyped(rng) for c in text)


def _cut(text: str, grade: int, rng: Rng) -> str:
    """The first three quarters, half and quarter of the characters."""
    return text[: max(1, round(len(text) * (0.75, 0.5, 0.25)[grade]))]


def _unspaced(text: str, grade: int, rng: Rng) -> str:
    """A quarter, half and all of the spaces left out."""
    return "".join(c for c in text if c != " " or rng.random() >= (0.25, 0.5, 1.0)[grade])


def _gapped(text: str, grade: int, rng: Rng) -> str:
    """A fifth, two and three fifths of the words left out."""
    return " ".join(word for word in text.split() if rng.random() >= (0.2, 0.4, 0.6)[grade])


PICTURES: Mapping[str, Callable[[U8, int, Rng], U8]] = {
    "blur": _blurred, "darkness": _dark, "glare": _glaring, "grain": _grainy, "distance": _small,
    "lower part covered": _scarfed, "one side covered": _halved, "something before it": _behind,
}  # fmt: skip
SOUNDS: Mapping[str, Callable[[F32, int, Rng], F32]] = {
    "pink noise": _in_noise, "white noise": _in_hiss, "clipping": _clipped, "far speech": _far, "short": _short,
    "drop-outs": _torn,
}  # fmt: skip
TEXTS: Mapping[str, Callable[[str, int, Rng], str]] = {
    "mistyped": _misspelt, "cut": _cut, "without spaces": _unspaced, "words lost": _gapped,
}  # fmt: skip
