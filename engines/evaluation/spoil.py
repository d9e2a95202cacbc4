"""Spoils items in grades, as bad light, a noisy room and a bad keyboard do, to see what an encoder makes of it.

Grade 0 is the item as it is, `GRADES` the worst. What is spoilt how is the same in every run.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from agent.types import F32, U8
from engines.evaluation.dataset import Dataset, Item

GRADES = 3
SNR_DB = (20.0, 10.0, 0.0)
"""Of speech over noise that falls by 3 dB an octave, by grade."""
BLUR = (0.01, 0.02, 0.04)
"""Deviation of the blur, by grade, as a share of the picture's width."""
LIGHT = (0.6, 0.3, 0.12)
"""What is left of the brightness, by grade; the sensor's noise stays."""
GRAIN = 4.0
"""Deviation of the sensor's noise, of 255."""
LOST = (0.1, 0.25, 0.5)
"""Share of the letters that are left out or mistyped, by grade."""


@dataclass(frozen=True, slots=True)
class Spoilt:
    """A dataset whose items are all spoilt by one grade, 1..GRADES."""

    data: Dataset
    grade: int

    @property
    def items(self) -> Sequence[Item]:
        """Those of the dataset."""
        return self.data.items

    def picture(self, item: Item) -> U8:
        """Blurred, dark and grainy."""
        sharp = self.data.picture(item)
        blurred = cv2.GaussianBlur(sharp, None, max(0.3, BLUR[self.grade - 1] * sharp.shape[1]))
        grain = GRAIN * _rng(item).standard_normal(sharp.shape)
        return np.asarray(np.clip(LIGHT[self.grade - 1] * blurred + grain, 0, 255), np.uint8)

    def sound(self, item: Item) -> F32:
        """In pink noise."""
        pcm = self.data.sound(item)
        if not len(pcm):
            return pcm
        noise = pink(len(pcm), _rng(item))
        loudness = np.sqrt(np.mean(np.square(pcm, dtype=np.float64)))
        return np.asarray(pcm + noise * loudness * 10 ** (-SNR_DB[self.grade - 1] / 20), np.float32)

    def text(self, item: Item) -> str:
        """With letters missing or taken for others."""
        rng = _rng(item)
        letters = [
            letter if not letter.isalpha() or rng.random() >= LOST[self.grade - 1] else mistyped(rng)
            for letter in self.data.text(item)
        ]
        return "".join(letters)


def pink(length: int, rng: np.random.Generator) -> F32:
    """(length,) of noise whose power falls as 1/f, of deviation 1."""
    spectrum = np.fft.rfft(rng.standard_normal(length))
    spectrum /= np.sqrt(np.maximum(np.arange(len(spectrum)), 1))
    noise = np.fft.irfft(spectrum, length)
    return np.asarray(noise / max(noise.std(), 1e-9), np.float32)


def mistyped(rng: np.random.Generator) -> str:
    """What comes of a letter: nothing, or another one."""
    return "" if rng.random() < 0.5 else chr(ord("a") + int(rng.integers(26)))


def _rng(item: Item) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(f"{item.line} {item.what}".encode()))
