"""Speaks the lines of the story, one WAV file a line, and mixes them into the sound track.

Two voices. Kokoro-82M (weights under Apache-2.0) sounds natural; espeak-ng sounds like a machine and is everywhere.
Both need the program `espeak-ng`, Kokoro for the phonemes.
"""

from __future__ import annotations

import io
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import onnxruntime
import soundfile
import soxr

from sensors.demo.story import DURATION_S, LINES, Line

F32 = npt.NDArray[np.float32]

RATE_HZ = 16_000
ROOM_DB = -62.0
"""RMS level of the room's noise, dB below full scale: a quiet office."""

# espeak-ng's phonemes, as Kokoro was trained to read them (the rules of misaki's espeak fallback for American English).
KOKORO_PHONEMES = (
    ("aɪ", "I"), ("aʊ", "W"), ("dʒ", "ʤ"), ("eɪ", "A"), ("tʃ", "ʧ"), ("ɔɪ", "Y"), ("oʊ", "O"), ("əl", "ᵊl"),
    ("ɚ", "əɹ"), ("ɜːɹ", "ɜɹ"), ("ɜː", "ɜɹ"), ("ɪə", "iə"), ("ɐ", "ə"), ("ː", ""), ("r", "ɹ"), ("x", "k"),
)  # fmt: skip


class Voice(Protocol):
    """Something that can say a line."""

    def say(self, line: Line) -> tuple[F32, int]:
        """The sound (T,) at the line's speed but without its pitch and level, and its rate in Hz."""


class Espeak:
    """The formant synthesiser espeak-ng, run as a program."""

    def say(self, line: Line) -> tuple[F32, int]:
        words_per_minute = round(185 * line.speed / line.pitch)
        command = ["espeak-ng", "-v", "en-us+f3", "-s", str(words_per_minute), "--stdout", line.text]
        wav = subprocess.run(command, check=True, capture_output=True).stdout
        pcm, rate_hz = soundfile.read(io.BytesIO(wav), dtype="float32")
        return pcm, rate_hz


class Kokoro:
    """Kokoro-82M from a folder with ``kokoro.onnx``, ``vocab.json`` and ``voice.bin`` (see ORIGIN.md)."""

    def __init__(self, folder: Path) -> None:
        self._session = onnxruntime.InferenceSession(folder / "kokoro.onnx", providers=["CPUExecutionProvider"])
        self._ids: dict[str, int] = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))["vocab"]
        # One style for each number of phonemes.
        self._styles = np.fromfile(folder / "voice.bin", dtype="<f4").reshape(-1, 1, 256)

    def say(self, line: Line) -> tuple[F32, int]:
        ids = [self._ids[symbol] for symbol in phonemes(line.text) if symbol in self._ids]
        feeds = {
            "tokens": np.array([[0, *ids, 0]], np.int64),
            "style": self._styles[len(ids)],
            "speed": np.array([line.speed / line.pitch], np.float32),
        }
        (pcm,) = self._session.run(None, feeds)
        return np.asarray(pcm, np.float32), 24_000


def phonemes(text: str) -> str:
    """`text` in Kokoro's symbols; its punctuation stays, because the voice phrases by it."""
    parts = []
    for clause, mark in re.findall(r"([^,.!?]+)([,.!?]?)", text):
        command = ["espeak-ng", "-q", "--ipa", "-v", "en-us", clause.strip()]
        spoken = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        parts.append(" ".join(spoken.split()) + mark)
    joined = " ".join(parts)
    for theirs, ours in KOKORO_PHONEMES:
        joined = joined.replace(theirs, ours)
    return joined


def record(folder: Path, voice: Voice) -> None:
    """Write ``line-N.wav`` into `folder` for each line that is not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, line in enumerate(LINES, 1):
        path = folder / f"line-{number}.wav"
        if not path.exists():
            pcm, rate_hz = voice.say(line)
            soundfile.write(path, pcm, rate_hz, subtype="PCM_16")


def sound_track(folder: Path) -> F32:
    """The whole session's sound, (T,) at `RATE_HZ`: the lines of `folder` at their pitch and level, in a quiet room."""
    track = room(round(DURATION_S * RATE_HZ))
    for start, pcm in placed(folder):
        track[start : start + len(pcm)] += pcm
    return track


def placed(folder: Path) -> Iterator[tuple[int, F32]]:
    """Each line as it sounds in the session, with the index of its first sample. Raises ValueError on an overlap."""
    free_s = 0.0
    for number, line in enumerate(LINES, 1):
        pcm, rate_hz = soundfile.read(folder / f"line-{number}.wav", dtype="float32")
        # Read at a higher rate than it was recorded at, it sounds higher, and faster, for which the voice made up.
        pcm = trimmed(soxr.resample(pcm, rate_hz * line.pitch, RATE_HZ, quality="VHQ"))
        if line.at_s < free_s:
            raise ValueError(f"line {number} begins at {line.at_s} s, but the one before it ends at {free_s:.2f} s")
        free_s = line.at_s + len(pcm) / RATE_HZ
        if free_s > DURATION_S:
            raise ValueError(f"line {number} ends at {free_s:.2f} s, after the session's end at {DURATION_S} s")
        loud = pcm[np.abs(pcm) > 0.02 * np.abs(pcm).max()]
        yield round(line.at_s * RATE_HZ), limited(pcm * (10 ** (line.level_db / 20) / float(np.sqrt(np.mean(loud**2)))))


def trimmed(pcm: F32) -> F32:
    """`pcm` (T,) without the silence at its ends."""
    loud = np.flatnonzero(np.abs(pcm) > 0.01 * np.abs(pcm).max())
    return pcm[loud[0] : loud[-1] + 1]


def limited(pcm: F32, *, ceiling: float = 0.9) -> F32:
    """`pcm` (T,) with its peaks bent softly under `ceiling`; what is below half the ceiling stays as it is."""
    knee = ceiling / 2
    over = np.maximum(np.abs(pcm) - knee, 0.0)
    bent = np.minimum(np.abs(pcm), knee) + knee * np.tanh(over / knee)
    return np.asarray(np.sign(pcm) * bent, np.float32)


def room(count: int) -> F32:
    """Noise of `count` samples that falls by 3 dB an octave, as the noise of rooms does; the same in every run."""
    spectrum = np.fft.rfft(np.random.default_rng(7).standard_normal(count))
    frequencies_hz = np.fft.rfftfreq(count, 1 / RATE_HZ)
    noise = np.fft.irfft(spectrum / np.sqrt(np.maximum(frequencies_hz, 40.0)), count)
    return np.asarray(noise * (10 ** (ROOM_DB / 20) / np.sqrt(np.mean(noise**2))), np.float32)
