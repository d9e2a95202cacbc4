"""Spoken words and the models that listen to them."""

import io
import subprocess
from collections.abc import Mapping
from functools import cache

import numpy as np
import soundfile
import soxr

from agent.types import AUDIO_RATE_HZ, F32, Audio, Sample
from engines import Array, Engine, open_engine
from engines.models import ModelStore

SENTENCE = "The weather is lovely today, and I am going to walk along the river."


@cache
def store() -> ModelStore:
    """The lock file's models; those for sound are brought if they are not there yet."""
    models = ModelStore()
    models.fetch([name for name in models.models if name.startswith(("voice-", "speech-"))])
    return models


@cache
def say(words: str, *, voice: str = "en-gb", pitch: int = 50) -> F32:
    """The words, spoken by espeak-ng, without silence at the ends. (T,)"""
    command = ["espeak-ng", "--stdout", "-v", voice, "-p", str(pitch), words]
    wave = subprocess.run(command, check=True, capture_output=True).stdout
    pcm, rate = soundfile.read(io.BytesIO(wave), dtype="float32")
    pcm = soxr.resample(pcm, rate, AUDIO_RATE_HZ).astype(np.float32)
    loud = np.flatnonzero(np.abs(pcm) > 0.02)
    return np.asarray(pcm[loud[0] : loud[-1]], np.float32)


def hush(seconds: float, *, seed: int = 0) -> F32:
    """A quiet room: white noise at -60 dB. (T,)"""
    rng = np.random.default_rng(seed)
    return (0.001 * rng.normal(size=round(seconds * AUDIO_RATE_HZ))).astype(np.float32)


def at_ns(samples: int, start_ns: int = 0) -> int:
    """The instant of a sample, by its number from `start_ns`."""
    return start_ns + samples * 1_000_000_000 // AUDIO_RATE_HZ


def blocks(pcm: F32, *, ms: int = 20, start_ns: int = 0, source: str = "microphone") -> list[Sample]:
    """`pcm` as a microphone would deliver it."""
    n = ms * AUDIO_RATE_HZ // 1000
    return [
        Sample(source, Audio(part), at_ns(i, start_ns), at_ns(i + len(part), start_ns), at_ns(i + len(part), start_ns))
        for i in range(0, len(pcm), n)
        if len(part := pcm[i : i + n])
    ]


class Counting:
    """An engine that counts how often it is run, and how much it was given."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.backend, self.inputs, self.outputs = engine.backend, engine.inputs, engine.outputs
        self.calls = 0
        self.rows = 0
        """Sum over the calls of the length of the first input's first axis."""

    def infer(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        self.calls += 1
        self.rows += len(feeds[self.inputs[0].name])
        return self._engine.infer(feeds)

    def close(self) -> None:
        self._engine.close()


def engine(name: str) -> Counting:
    """The model of that name in the lock file."""
    return Counting(open_engine(store().path(name), "onnxruntime"))
