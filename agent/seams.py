"""The seams at which parts are swapped: pass another object that fits.

One small protocol per kind of thing. Nothing registers itself and nothing is found by name at run time; `launch.py`
builds the objects that the config asks for and hands them over.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from typing import Protocol, runtime_checkable

from agent.types import Decided, Modality, Reading, Sample, Source, Utterance, Watermark
from agent.window import SourceState


class SensorError(Exception):
    """A sensor could not open, or lost, what it reads from. The supervisor restarts it after a pause.

    The message names the thing, what was asked, what was found and what to do.
    """


class EncoderError(Exception):
    """An encoder could not read its part of a window: the modality counts as failed in it, and the agent goes on."""


class Sensor(Protocol):
    """Something that delivers samples."""

    @property
    def name(self) -> str:
        """As in the config."""

    @property
    def sources(self) -> tuple[Source, ...]:
        """The streams it feeds; most sensors feed one, of their own name."""

    @property
    def drops(self) -> Counter[str]:
        """What it left out since the start, by reason."""

    def stream(self) -> AsyncGenerator[Sample | Watermark, None]:
        """Open on the first step, yield what comes, close in ``finally``; may be called again after it ended.

        Ends by returning when the input is at its end (a file), and by `SensorError` when the input is lost.
        """


@runtime_checkable
class Abandons(Protocol):
    """A sensor that leaves a driver behind which does not end when it is told to."""

    @property
    def held(self) -> bool:
        """Whether such a driver still has the device, though the stream was closed."""


class Encoder(Protocol):
    """Turns a modality's part of a window into evidence. Blocking; runs in a thread of its own."""

    @property
    def modality(self) -> Modality:
        """The modality it reads."""

    def encode(self, samples: Sequence[Sample], end_ns: int) -> Reading:
        """Read the samples of one window, oldest first, maybe of several sources.

        What was worked out for a sample is remembered until the sample is dropped, so that overlapping windows cost
        only their new samples. Raises `EncoderError`.
        """

    def close(self) -> None:
        """Free the engines."""


@runtime_checkable
class Forgetful(Protocol):
    """An encoder that remembers more of a source than what it made of the samples in memory, such as a voice."""

    def forget(self, source: str) -> None:
        """Drop all that; in the encoder's thread."""


class Transcriber(Protocol):
    """Turns an utterance into text. Blocking; runs in a thread of its own."""

    def transcribe(self, utterance: Utterance) -> str | None:
        """The words, or None when there were none to be understood."""

    def close(self) -> None:
        """Free the engines."""


class Observer(Protocol):
    """Looks on at a running agent: the recorder, the dashboard, the watchdogs.

    Called on the event loop between two steps of the agent: returns at once, never raises, and never changes what it
    is shown. What takes time it hands to a thread or a task of its own, through a bounded queue.
    """

    def fed(self, item: Sample | Watermark) -> None:
        """A source or the transcriber delivered this; the window may yet leave it out."""

    def marked(self, source: str, state: SourceState) -> None:
        """The standing of a source changed."""

    def decided(self, decided: Decided) -> None:
        """A window was decided."""


class Companion(Observer, Protocol):
    """An observer with work of its own beside the agent's, such as a web server or a file to write."""

    @property
    def name(self) -> str:
        """Of its task, for tracebacks."""

    async def run(self) -> None:
        """Work until cancelled, then tidy up. What it raises ends the agent."""
