"""What ``launch.py`` can be asked for, as far as it is the agent's own: one module a verb or a few that are alike.

The agent knows neither sensors nor engines; ``launch.py`` hands them over as `Parts`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from agent.config import Config, SensorTable
from agent.fusion import TrainedHead
from agent.recording.format import About, Entry, PartSurvey
from agent.remote.clocks import Listening
from agent.seams import Encoder, Sensor, Transcriber
from agent.types import Modality, Sample, Source, Watermark


class History(Protocol):
    """What a recording of a running agent tells besides what the sensors delivered."""

    @property
    def about(self) -> About:
        """The agent that was recorded."""

    @property
    def transcribed(self) -> bool:
        """Whether the words that were spoken are among what was recorded."""

    def entries(self) -> Generator[Entry, None, None]:
        """Everything in the order in which it happened, on the clock of then. Raises `SensorError`."""

    def survey(self) -> tuple[PartSurvey, ...]:
        """What is in its parts; reads all of it. Raises `SensorError`."""

    def published(self) -> Generator[bytes, None, None]:
        """The decisions as they were published, as JSON. Raises `SensorError`."""


class Recorded(Protocol):
    """A recorded session."""

    @property
    def name(self) -> str:
        """What its decisions' ids begin with."""

    @property
    def start_ns(self) -> int:
        """When it begins, on the clock of its events."""

    @property
    def duration_ns(self) -> int:
        """How long it lasts."""

    @property
    def history(self) -> History | None:
        """What the agent made of it then; None where no agent was recorded."""

    @property
    def start_wall_ns(self) -> int:
        """Wall clock at its start, in ns since the Unix epoch; 0 where it is not told."""

    @property
    def sources(self) -> tuple[Source, ...]:
        """The streams that were recorded."""

    def events(self) -> Generator[Sample | Watermark, None, None]:
        """What sensors delivered, in the order of arrival; the same every time. Raises `SensorError`."""


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

    def encoders(
        self, config: Config, sources: Iterable[Source], *, live: bool = False
    ) -> tuple[dict[Modality, Encoder], Transcriber | None]:
        """What reads the modalities of these sources; ``live`` encoders may change their back end while they run."""

    def fusion(self, config: Config) -> TrainedHead | None:
        """The trained fusion head, where the config asks for it."""

    def session(self, name: str) -> Recorded:
        """The session at a path, or the bundled one by the name ``demo``. Raises `SensorError`."""
