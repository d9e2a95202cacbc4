"""``config.toml`` as typed, frozen settings, in the order of the file.

`load` reports every fault at once, each with its key, what was found and what to do; an unknown key fails with the
nearest known name. Durations, sizes and rates are strings with a unit; in here they are ns, bytes and Hz.
"""

from __future__ import annotations

import re
import socket
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from agent import faults
from agent.clock import MS, SECOND
from agent.fusion import RULES
from agent.scalars import (
    Authority,
    Broker,
    Count,
    Duration,
    DurationOrZero,
    Level,
    Rate,
    Secret,
    Share,
    Size,
    within,
)
from agent.types import Modality

LABELS = ("neutral", "happy", "sad", "angry", "fearful", "disgusted", "surprised")


class ConfigError(Exception):
    """What is wrong with the config: one line a fault."""

    def __init__(self, path: str, lines: Sequence[str]) -> None:
        self.lines = tuple(lines)
        count = f"{len(lines)} fault{'s' if len(lines) > 1 else ''}"
        super().__init__("\n".join([f"{path}: {count}", *(f"  {line}" for line in lines)]))


def _rule(name: str) -> str:
    if name not in RULES:
        raise ValueError(f"found {name!r}; must be one of {', '.join(RULES)}")
    return name


def _index(device: object) -> object:
    """A camera's number may be written as one; ``--set`` cannot tell it from a string."""
    return str(device) if isinstance(device, int) and not isinstance(device, bool) else device


def _not_kept(name: str) -> str:
    if name == "speech":  # agent.pipeline.SPEECH; that module is not for the config to import
        raise ValueError("the name is kept for the transcripts of spoken words; take another one")
    return name


class Table(BaseModel):
    """A table of the file: frozen, without keys that it does not know, and every number finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Agent(Table):
    """``[agent]``."""

    node: Level = Field(default_factory=lambda: re.sub(r"[/+#\s]", "_", socket.gethostname()))
    labels: tuple[Annotated[str, Field(min_length=1)], ...] = LABELS
    prior: Literal["uniform"] | tuple[float, ...] = "uniform"
    hop: Annotated[Duration, within("20 ms", "365 d")] = 500 * MS
    lateness: DurationOrZero = 250 * MS
    transcribe: bool = True
    max_samples: Count = 4_000
    max_memory: Size = 256 << 20

    @field_validator("node", mode="before")
    @classmethod
    def _host_name(cls, node: object) -> object:
        return re.sub(r"[/+#\s]", "_", socket.gethostname()) if node == "" else node

    @field_validator("labels")
    @classmethod
    def _labels_differ(cls, labels: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(labels)) != len(labels) or len(labels) < 2:
            raise ValueError(f"must be two or more different names; found {list(labels)}")
        return labels

    @field_validator("prior", mode="before")
    @classmethod
    def _prior_fits(cls, prior: object, info: ValidationInfo) -> object:
        labels: Sequence[str] = info.data.get("labels", ())  # none where they are faulty themselves
        fits = prior == "uniform" or (
            isinstance(prior, list | tuple)
            and all(type(p) in (int, float) and 1e-6 <= p <= 1e6 for p in prior)
            and len(prior) == (len(labels) or len(prior))
        )
        if not fits:
            count = f"{len(labels)} " if labels else ""
            raise ValueError(f'must be "uniform" or {count}numbers from 1e-6 to 1e6, one a label; found {prior!r}')
        return prior


class CameraSensor(Table):
    """``[sensors.<name>] kind = "camera"``."""

    kind: Literal["camera"]
    device: Annotated[str, BeforeValidator(_index)]
    width: Count = 640
    height: Count = 480
    fps: Annotated[float, Field(gt=0)] = 30.0
    loop: bool = False
    stall: Duration = 5 * SECOND


class MicrophoneSensor(Table):
    """``[sensors.<name>] kind = "microphone"``."""

    kind: Literal["microphone"]
    device: str = "default"
    block: Duration = 20 * MS
    stall: Duration = 5 * SECOND


class TextSensor(Table):
    """``[sensors.<name>] kind = "text"``: MQTT messages on ``<base>/<node>/text/in``."""

    kind: Literal["text"]
    max_delay: Duration = 10 * SECOND
    max_size: Size = 64 << 10
    queue: Count = 64


class StdinSensor(Table):
    """``[sensors.<name>] kind = "stdin"``: a message a line."""

    kind: Literal["stdin"]


class ReplaySensor(Table):
    """``[sensors.<name>] kind = "replay"``: a recorded session, in real time."""

    kind: Literal["replay"]
    session: Path
    loop: bool = False


SensorTable = Annotated[
    CameraSensor | MicrophoneSensor | TextSensor | StdinSensor | ReplaySensor, Field(discriminator="kind")
]


Span = Annotated[Duration, within("1 ns", "60 s")]


class Encoder(Table):
    """``[encoders.<modality>]``."""

    enabled: bool = True
    backend: Literal["auto", "tensorrt", "onnxruntime"] = "auto"
    span: Span
    reliability: Share
    tau: Duration
    labels: dict[str, str] = {}


class Vision(Encoder):
    """``[encoders.vision]``."""

    span: Span = 1 * SECOND
    reliability: Share = 0.7
    tau: Duration = 1 * SECOND
    rate: Rate = 5.0


class Audio(Encoder):
    """``[encoders.audio]``."""

    span: Annotated[Duration, within("1 ns", "10 s")] = 3 * SECOND  # the voice encoder remembers no more
    reliability: Share = 0.6
    tau: Duration = 3 * SECOND


class Language(Encoder):
    """``[encoders.text]``."""

    span: Span = 6 * SECOND
    reliability: Share = 0.6
    tau: Duration = 5 * SECOND


class Encoders(Table):
    """``[encoders]``."""

    vision: Vision = Vision()
    audio: Audio = Audio()
    text: Language = Language()

    def items(self) -> Iterable[tuple[Modality, Encoder]]:
        """Each modality with its table."""
        return ((Modality.VISION, self.vision), (Modality.AUDIO, self.audio), (Modality.TEXT, self.text))


class Fusion(Table):
    """``[fusion]``."""

    rule: Annotated[str, AfterValidator(_rule)] = "bayes"
    dwell: DurationOrZero = 3 * SECOND
    trust: Share = 0.5
    abstain_below: Share = 0.35


class Mqtt(Table):
    """``[mqtt]``."""

    broker: Broker = "embedded"
    base: Level = "attune"
    user: str | None = None
    password: Secret | None = None
    ca_file: Authority | None = None
    decision_qos: Literal[0, 1] = 0
    stale_after: Duration = 10 * SECOND
    metrics_every: Duration = 10 * SECOND
    queue: Count = 256


class Models(Table):
    """``[models]``."""

    cache: Path | None = None
    licences: Literal["any"] = "any"


class Config(Table):
    """The whole file."""

    agent: Agent = Agent()
    sensors: dict[Annotated[Level, AfterValidator(_not_kept)], SensorTable] = {}
    encoders: Encoders = Encoders()
    fusion: Fusion = Fusion()
    mqtt: Mqtt = Mqtt()
    models: Models = Models()


def load(path: Path, overrides: Iterable[str] = ()) -> Config:
    """Read the file and apply ``table.key=value`` overrides; raises `ConfigError` with every fault there is."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(str(path), ["no such file; name one with --config FILE"]) from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(str(path), [f"cannot be read as TOML: {error}"]) from None
    lines = [line for override in overrides if (line := _override(tables, override))]
    try:
        config = Config.model_validate(tables)
    except ValidationError as error:
        lines += faults.lines(error, Config, tables)
    if lines:
        raise ConfigError(str(path), lines)
    return config


def _override(tables: dict[str, Any], override: str) -> str | None:
    """Put one ``table.key=value`` into the tables; returns the fault where it cannot."""
    key, separator, text = override.partition("=")
    names = key.strip().split(".")
    if not separator or not all(names):
        return f"--set {key}: write it as table.key=value"
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()  # a bare word is a string, so that the shell's quotes suffice
    table: Any = tables
    for name in names[:-1]:
        table = table.setdefault(name, {})
        if not isinstance(table, dict):
            return f"--set {key}: {name} is a value, not a table"
    table[names[-1]] = value
    return None


def prior_of(agent: Agent) -> Mapping[str, float]:
    """The agent's prior by label, summing to 1."""
    weights = (1.0,) * len(agent.labels) if agent.prior == "uniform" else agent.prior
    return {label: weight / sum(weights) for label, weight in zip(agent.labels, weights, strict=True)}
