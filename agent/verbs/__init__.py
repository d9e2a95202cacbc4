"""What ``launch.py`` can be asked for, as far as it is the agent's own: one module a verb or a few that are alike.

The agent knows neither sensors nor engines; ``launch.py`` hands them over as `Parts`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from agent.config import Config, SensorTable
from agent.fusion import LearnedHead
from agent.remote import Listening
from agent.seams import Encoder, Sensor, Transcriber
from agent.types import Modality, Sample, Source, Watermark


class Recorded(Protocol):
    """A recorded session."""

    @property
    def name(self) -> str:
        """What its decisions' ids begin with."""

    @property
    def start_wall_ns(self) -> int:
        """Wall clock at its start, in ns since the Unix epoch; 0 where it is not told."""

    @property
    def sources(self) -> tuple[Source, ...]:
        """The streams that were recorded."""

    def events(self) -> Generator[Sample | Watermark, None, None]:
        """Everything in the order of arrival, in ns from the start; the same every time. Raises `SensorError`."""


class Parts(Protocol):
    """What opens the sensors and the engines that the config asks for."""

    def failures(self) -> tuple[type[Exception], ...]:
        """What any of these may raise where something is not there or not right; the message says what to do."""

    def sensors(self, tables: Mapping[str, SensorTable], listening: Listening, *, said_in: Path) -> Sequence[Sensor]:
        """The sensors of these tables, each source with a name of its own.

        Raises `ConfigError`, which names the file ``said_in``, where two feed one source.
        """

    def text_inlet(self, sensors: Sequence[Sensor]) -> Callable[[bytes, int], None] | None:
        """What takes a text that came over MQTT, and its arrival; None where no sensor wants any."""

    def encoders(self, config: Config, sources: Iterable[Source]) -> tuple[dict[Modality, Encoder], Transcriber | None]:
        """What reads the modalities of these sources."""

    def fusion(self, config: Config) -> LearnedHead | None:
        """The trained fusion head, where the config asks for it."""

    def session(self, name: str) -> Recorded:
        """The session at a path, or the bundled one by the name ``demo``. Raises `SensorError`."""
