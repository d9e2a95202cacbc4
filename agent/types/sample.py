"""What sources deliver, and the windows that are cut of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, assert_never

import numpy as np
import numpy.typing as npt

AUDIO_RATE_HZ = 16_000
"""Every audio sample is mono at this rate: what silero VAD and Whisper take. Sources resample."""

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]
U8 = npt.NDArray[np.uint8]


class Modality(StrEnum):
    """One way of sensing a person. The values are the names in config, topics and payloads."""

    VISION = "vision"
    AUDIO = "audio"
    TEXT = "text"


class Absence(StrEnum):
    """Why a modality has nothing to say in a window."""

    SILENT = "silent"
    """The source delivers, but there is no face, speech or text in it."""
    LATE = "late"
    """Nothing came within the lateness."""
    FAILED = "failed"
    """The source is down and being restarted, or the encoder could not read what came."""
    SKIPPED = "skipped"
    """The compute budget left it out, or its encoder was not done in time."""
    DISABLED = "disabled"
    """Left out by config, pause or privacy, or the input of its sources has ended."""


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One picture."""

    bgr: U8
    """(H, W, 3), blue green red, 0..255, as OpenCV delivers it."""

    @property
    def nbytes(self) -> int:
        """Memory that it holds."""
        return self.bgr.nbytes


@dataclass(frozen=True, slots=True, eq=False)
class Audio:
    """One block of sound."""

    pcm: F32
    """(T,), mono, full scale at -1..1, `AUDIO_RATE_HZ`."""


@dataclass(frozen=True, slots=True, eq=False)
class Text:
    """One message, or one spoken utterance after transcription."""

    text: str
    """Never empty."""
    lang: str | None = None
    """BCP 47 tag when the sender gave one."""
    origin: Literal["message", "speech"] = "message"
    """Typed or spoken."""


Payload = Frame | Audio | Text


def modality_of(payload: Payload) -> Modality:
    """The modality to which a payload belongs."""
    match payload:
        case Frame():
            return Modality.VISION
        case Audio():
            return Modality.AUDIO
        case Text():
            return Modality.TEXT
        case _ as never:
            assert_never(never)


def nbytes(payload: Payload) -> int:
    """Memory that a payload holds, in bytes (text: four bytes a character)."""
    match payload:
        case Frame():
            return payload.nbytes
        case Audio():
            return payload.pcm.nbytes
        case Text():
            return 4 * len(payload.text)
        case _ as never:
            assert_never(never)


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Sample:
    """What one source captured, over the span ``[t_ns, end_ns]``.

    Samples compare and hash by identity, and can be referred to weakly: an encoder remembers what it made of a sample
    in a ``WeakKeyDictionary``, and forgets it when the window drops the sample.
    """

    source: str
    """Name of the source, as in the config: ``camera``, ``microphone``, ``text``…"""
    payload: Payload
    t_ns: int
    """When the world began to produce it (exposure, first audio sample, first word)."""
    end_ns: int
    """When the world had produced it; equal to ``t_ns`` for an instant. Decides in which windows it falls."""
    arrival_ns: int
    """When we got it."""

    def __post_init__(self) -> None:
        if self.end_ns < self.t_ns:
            raise ValueError(f"sample of {self.source}: ends at {self.end_ns} ns, before it begins at {self.t_ns} ns")

    @property
    def modality(self) -> Modality:
        """The modality of the payload."""
        return modality_of(self.payload)


@dataclass(frozen=True, slots=True)
class Watermark:
    """A source's word that it has delivered every sample that ends at or before ``t_ns``."""

    source: str
    t_ns: int


@dataclass(frozen=True, slots=True)
class Source:
    """One stream of samples that the window knows by name."""

    name: str
    modality: Modality
    awaited: bool = True
    """Whether a window waits for this source. False where an answer may take seconds (transcription)."""
    late_by_ns: int = 0
    """How long after its end a sample may come and still enter the windows that are not yet cut. With 0 the source
    delivers in order and its samples raise its watermark; otherwise only a `Watermark` does."""


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """What was sensed up to ``end_ns``, cut once."""

    start_ns: int
    """The earliest instant that anything here may come from: ``end_ns`` less the longest span."""
    end_ns: int
    cut_ns: int
    """When it was cut."""
    settled: bool
    """Whether every live source had delivered up to ``end_ns``; otherwise it was cut at the lateness."""
    parts: Mapping[Modality, tuple[Sample, ...]]
    """Per modality its samples in the order of ``(end_ns, t_ns, source)``; modalities without samples are absent."""
    missing: Mapping[Modality, Absence]
    """The modalities that are not in ``parts``, and why."""
