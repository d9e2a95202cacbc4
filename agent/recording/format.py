"""What a recording consists of: the names that writer and reader share, and what comes out of one besides samples.

A recording is a folder of parts ``0001.mcap``, ``0002.mcap``…, each complete in itself. Each sample is a message on the
topic of its source in one of Foxglove's schemas, and a row on `ORDER` that says what such a message cannot: its exact
stamps, and its place among all that the agent was fed. `WINDOW` says which of them each decided window held, and how
its encoders fared, so that a replay decides just what was decided, however long things took.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from agent.types import Course, Sample, Watermark, Window
from agent.window import SourceState

FORMAT = 1
"""Of this layout; a reader refuses later ones."""
PROFILE = "attune"
METADATA = "attune"
"""Name of the metadata record that opens a part; its values are in `About`."""
CONFIG = "config.json"
"""Name of the attachment with the agent's config."""

ORDER = "/attune/order"
WINDOW = "/attune/window"
DECISION = "/attune/decision"
EVENT = "/attune/event"
METRICS = "/attune/metrics"
LOG = "/attune/log"

PCM_S16 = "pcm-s16"
"""Of ``foxglove.RawAudio``, as Foxglove plays it: 16 bits a sample."""
PCM_F32 = "pcm-f32"
"""The samples as they were, to the last bit."""
OPUS = "opus"
"""Of ``foxglove.CompressedAudio``: raw packets of 20 ms."""


class Kind(StrEnum):
    """Of a row on `ORDER`."""

    SAMPLE = "sample"
    WATERMARK = "watermark"
    MARK = "mark"
    SWITCHED = "switched"
    RELOADED = "reloaded"


def topic(source: str) -> str:
    """Where the samples of a source are."""
    return f"/{source}"


@dataclass(frozen=True, slots=True)
class Mark:
    """The standing of a source changed."""

    source: str
    state: SourceState


@dataclass(frozen=True, slots=True)
class Switched:
    """Sensing was switched off, and all that was sensed forgotten; or on again."""

    on: bool


@dataclass(frozen=True, slots=True)
class Reloaded:
    """The windows that were cut from here on were decided with another config."""

    changed: tuple[str, ...]
    """The keys, as they are written in the file."""


Fed = Sample | Watermark | Mark | Switched | Reloaded
"""What has its row on `ORDER`."""


@dataclass(frozen=True, slots=True, eq=False)
class Told:
    """A window as it was decided."""

    session: str
    seq: int
    window: Window
    course: Course
    wall_start_ns: int
    """Wall clock at the window's start, in ns since the Unix epoch, as it was published."""
    wall_end_ns: int
    steps_back: int
    """Of the wall clock, until then."""
    lost: int = 0
    """Samples that it held and that are not in the recording."""


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """One thing out of a recording, in the order in which they happened."""

    at_ns: int
    """When the agent was fed it, or decided it."""
    what: Fed | Told


@dataclass(frozen=True, slots=True)
class PartSurvey:
    """What is in a part."""

    path: Path
    nbytes: int
    cut_off_at: int | None
    """Where what is whole ends, if it was cut off."""
    messages: Mapping[str, int]
    """By topic."""
    lost: int
    """Samples whose payload was left out, because the disk was slow or the picture none."""
    reloads: int
    """How often another config was put into force."""


@dataclass(frozen=True, slots=True, eq=False)
class About:
    """What a part says of the agent that was recorded."""

    session: str
    """What the ids of its decisions begin with."""
    node: str
    start_ns: int
    """When the recording began, on the clock of all its stamps."""
    start_wall_ns: int
    """Wall clock then, in ns since the Unix epoch."""
    whole: bool
    """Whether the agent began with it, so that nothing was remembered from before."""
    sources: tuple[Mapping[str, Any], ...]
    """Fields of `agent.types.Source`, the source of transcripts included."""
    config: Mapping[str, Any]
    """As `agent.config.Config` dumps it, without passwords and addresses of cameras."""
    versions: Mapping[str, str]
