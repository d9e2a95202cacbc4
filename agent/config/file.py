"""Reading the file: every fault at once."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError, ValidationInfo, field_validator

from agent.config import faults
from agent.config.agent import Agent
from agent.config.align import Align
from agent.config.dashboard import Dashboard
from agent.config.encoders import Encoders
from agent.config.events import Event, unknown_labels
from agent.config.fusion import Fusion
from agent.config.metrics import Metrics
from agent.config.mqtt import Mqtt
from agent.config.privacy import UNSTATED, Privacy
from agent.config.record import Record
from agent.config.scalars import Level
from agent.config.sensors import SensorTable
from agent.config.table import Table
from agent.config.view import View

_NOT_TOML = (ValueError, RecursionError)
"""What tomllib raises: beside its own error, that of a number with thousands of digits, and of as many brackets."""


class ConfigError(Exception):
    """What is wrong with the config: one line a fault."""

    def __init__(self, path: str, lines: Sequence[str]) -> None:
        self.lines = tuple(lines)
        count = f"{len(lines)} fault{'s' if len(lines) > 1 else ''}"
        super().__init__("\n".join([f"{path}: {count}", *(f"  {line}" for line in lines)]))


def _not_kept(name: str) -> str:
    if name == "speech":  # agent.pipeline.SPEECH; that module is not for the config to import
        raise ValueError("the name is kept for the transcripts of spoken words; take another one")
    return name


class Models(Table):
    """``[models]``."""

    cache: Path | None = None
    licences: Literal["any", "commercial"] = "any"


class Config(Table):
    """The whole file."""

    agent: Agent = Agent()
    sensors: dict[Annotated[Level, AfterValidator(_not_kept)], SensorTable] = Field(default_factory=dict)
    encoders: Encoders = Encoders()
    align: Align = Align()
    fusion: Fusion = Fusion()
    mqtt: Mqtt = Mqtt()
    models: Models = Models()
    record: Record = Record()
    metrics: Metrics = Metrics()
    dashboard: Dashboard = Dashboard()
    events: dict[Level, Event] | None = None
    privacy: Privacy = UNSTATED
    view: View = View()

    @field_validator("events")
    @classmethod
    def _of_known_labels(cls, events: dict[str, Event] | None, info: ValidationInfo) -> dict[str, Event] | None:
        agent: Agent | None = info.data.get("agent")  # None where it is faulty itself
        if agent and (wrong := unknown_labels(events, agent.labels)):
            raise ValueError("; ".join(wrong))
        return events


def load(path: Path, overrides: Iterable[str] = ()) -> Config:
    """Read the file and apply ``table.key=value`` overrides; raises `ConfigError` with every fault there is."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(str(path), ["no such file; name one with --config FILE"]) from None
    except (OSError, *_NOT_TOML) as error:
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
    except _NOT_TOML:
        value = text.strip()  # a bare word is a string, so that the shell's quotes suffice
    table: Any = tables
    for name in names[:-1]:
        table = table.setdefault(name, {})
        if not isinstance(table, dict):
            return f"--set {key}: {name} is a value, not a table"
    table[names[-1]] = value
    return None
