"""What an encoder makes of its part of a window."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from agent.types.sample import F32, F64, Modality


@dataclass(frozen=True, slots=True, eq=False)
class Utterance:
    """A stretch of speech that the voice activity detector has closed."""

    source: str
    pcm: F32
    """(T,), as in `Audio`."""
    t_ns: int
    end_ns: int


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """What one modality says in one window."""

    modality: Modality
    source: str
    """The source that decided: of several, the one with the best quality."""
    probs: F64
    """(K,), calibrated posterior over the agent's labels, sums to 1, never 0."""
    prior: F64
    """(K,), the class prior under which ``probs`` were trained."""
    quality: float
    """0..1, measured from the signal."""
    t_ns: int
    """The newest instant on which it is based; its age in a window is ``window.end_ns - t_ns``."""
    engine: str
    """The back end that ran it: ``onnxruntime`` or ``tensorrt``."""
    dimensions: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    """Continuous readings in 0..1, such as ``arousal``; empty where the encoder has none."""
    rivals: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    """Other sources of the modality that had evidence, with their quality."""
    embedding: F32 | None = None
    """(D,), what the encoder's network made of it before it named a label; None where the encoder has none."""


@dataclass(frozen=True, slots=True)
class Region:
    """Where in a frame something was found: a face."""

    source: str
    t_ns: int
    """Instant of the frame."""
    box: tuple[float, float, float, float]
    """Left, top, right, bottom, as shares 0..1 of the frame's width and height; may reach a little beyond it."""
    landmarks: tuple[tuple[float, float], ...] = ()
    """(x, y), as shares like `box`."""


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """What an encoder makes of its part of a window."""

    evidence: Evidence | None
    """None when there is no face, speech or text in it: never a uniform guess."""
    utterances: tuple[Utterance, ...] = ()
    """Utterances that ended in it, each reported once."""
    regions: tuple[Region, ...] = ()
    """Of the newest frame of each source, where its faces are; for people to look at."""
    speech: float | None = None
    """Of the newest sound, how surely somebody speaks in it, 0..1; None where nobody listens for speech."""
    unread: int = 0
    """Texts that were left out because nobody reads their language, each reported once."""
