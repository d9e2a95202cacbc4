"""``[agent]``: labels, windows, memory."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator

from agent.clock import MS
from agent.config.scalars import Count, DurationOrZero, Level, Size, parse_duration, within
from agent.config.table import Table

LABELS = ("neutral", "happy", "sad", "angry", "fearful", "disgusted", "surprised")


def _budget(text: object) -> int | None:
    """Encoder time per decision in ns; None for no limit."""
    if text == "none":
        return None
    budget_ns = parse_duration(text)
    if not budget_ns:
        raise ValueError(f'must be above 0, or "none"; found {text!r}')
    return budget_ns


class Agent(Table):
    """``[agent]``."""

    node: Level = Field(default_factory=lambda: re.sub(r"[/+#\s]", "_", socket.gethostname()))
    labels: tuple[Annotated[str, Field(min_length=1)], ...] = LABELS
    prior: Literal["uniform"] | tuple[float, ...] = "uniform"
    hop: Annotated[int, within("20 ms", "365 d")] = 500 * MS
    lateness: DurationOrZero = 250 * MS
    budget: Annotated[int | None, BeforeValidator(_budget)] = None
    transcribe: bool = True
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
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


def prior_of(agent: Agent) -> Mapping[str, float]:
    """The agent's prior by label, summing to 1."""
    weights = (1.0,) * len(agent.labels) if agent.prior == "uniform" else agent.prior
    return {label: weight / sum(weights) for label, weight in zip(agent.labels, weights, strict=True)}
