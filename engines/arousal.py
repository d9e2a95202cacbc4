"""Arousal from pitch and spectral tilt alone, against what is usual for the voice: no trained weights.

`ProsodicHead` stands in for an `engines.speaker.SpeakerHead` whose licence forbids what one is about to do.

A voice that is aroused is higher and brighter than it usually is (Banse & Scherer 1996, "Acoustic profiles in vocal
emotion expression"). What is usual is a running mean of what was heard before, drawn towards the voices of people at
large while little was heard. Nothing here comes from a corpus of emotions, so its licence binds nobody.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp
from typing import Any

import numpy as np
import numpy.typing as npt

from agent.types import F64
from engines.prosody import Prosody
from engines.speaker import FADE_S

USUAL_TILT = -1.0
"""Of people at large: see `engines.prosody.Prosody.tilt`…"""
USUAL_PITCH = 0.6
"""…and pitch, about 150 Hz, between a man's and a woman's usual one (Titze 1989)."""
SPREAD = 0.35
"""Of either within one voice: a tilt of 3.5 dB, or a third of an octave."""
PITCH_WEIGHT = 2 / 3
"""Pitch counts twice as much as tilt, which rooms and microphones bend as well."""
LEAST_VOICED = 0.1
"""Where less is voiced, pitch says nothing."""
PATIENCE = 5.0
"""Utterances whose mean weighs as much as `USUAL_TILT` and `USUAL_PITCH`."""


@dataclass(frozen=True, slots=True)
class UsualVoice:
    """How a voice mostly sounds. Begin with ``UsualVoice()``; `with_heard` gives the next one."""

    heard: float = 0.0
    """Utterances, in parts of a whole one."""
    tilt: float = 0.0
    """Sum over them…"""
    pitch_heard: float = 0.0
    """…those of which with a pitch…"""
    pitch: float = 0.0
    """…and its sum."""

    def arousal(self, prosody: Prosody) -> float:
        """0..1, 0.5 where it sounds as usual: by rank a reading, by value no probability of anything."""
        tilt = prosody.tilt - _drawn(self.tilt, self.heard, USUAL_TILT)
        pitch = prosody.pitch - _drawn(self.pitch, self.pitch_heard, USUAL_PITCH) if _pitched(prosody) else 0.0
        return 1 / (1 + exp(-((1 - PITCH_WEIGHT) * tilt + PITCH_WEIGHT * pitch) / SPREAD))

    def with_heard(self, prosody: Prosody, *, share: float = 1.0) -> UsualVoice:
        """What is usual after this, which counts as so much of an utterance, 0..1."""
        pitched = share if _pitched(prosody) else 0.0
        return UsualVoice(
            self.heard + share,
            self.tilt + share * prosody.tilt,
            self.pitch_heard + pitched,
            self.pitch + pitched * prosody.pitch,
        )


class ProsodicHead:
    """A posterior that tells the labels of high arousal from those of low, and none from another of its kind."""

    high = ("angry", "fearful", "happy", "surprised")
    low = ("neutral", "sad")
    labels = high + low

    def __init__(self) -> None:
        self.prior: F64 = self._shared(0.5)
        """(K,), half of it on either kind: that is what an arousal of 0.5 means."""

    def stranger(self) -> UsualVoice:
        """A voice of which nothing is known."""
        return UsualVoice()

    def place(self, x: npt.NDArray[Any]) -> F64:
        """(N, 3): tilt, pitch and voicing, the last three of features (N, D) as `engines.voice.features` makes them."""
        return np.asarray(x[:, -3:], np.float64)

    def posterior(self, z: F64, voice: UsualVoice) -> F64:
        """(K,)."""
        return self._shared(voice.arousal(_prosody(z)))

    def learn(self, z: F64, voice: UsualVoice, *, share: float = 1.0) -> UsualVoice:
        """What is usual after z."""
        return voice.with_heard(_prosody(z), share=share)

    def faded(self, voice: UsualVoice, seconds: float) -> UsualVoice:
        """What is left of it after that long: it counts as less."""
        left = exp(-max(0.0, seconds) / FADE_S)
        return UsualVoice(left * voice.heard, left * voice.tilt, left * voice.pitch_heard, left * voice.pitch)

    def arousal(self, posterior: F64) -> float:
        """Probability of a label of high arousal."""
        return float(posterior[: len(self.high)].sum())

    def _shared(self, arousal: float) -> F64:
        return np.repeat([arousal / len(self.high), (1 - arousal) / len(self.low)], [len(self.high), len(self.low)])


def _prosody(z: F64) -> Prosody:
    tilt, pitch, voiced = z.tolist()
    return Prosody(tilt, pitch, voiced, 0.0)


def _pitched(prosody: Prosody) -> bool:
    return prosody.voiced >= LEAST_VOICED


def _drawn(total: float, n: float, usual: float) -> float:
    return (total + PATIENCE * usual) / (n + PATIENCE)
