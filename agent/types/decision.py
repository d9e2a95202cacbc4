"""The fused answer, and what each modality had to do with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from agent.types.reading import Reading, Utterance
from agent.types.sample import Absence, Modality, Sample, Window


@dataclass(frozen=True, slots=True)
class Contribution:
    """What one modality had to do with a decision."""

    label: str
    """Its own most probable label."""
    confidence: float
    """Its own probability for ``label``."""
    weight: float
    """reliability * quality * exp(-age / tau), 0..1."""
    quality: float
    """0..1, of its evidence, lowered by what ails the source (`agent.health.vitals`)."""
    age_ns: int
    """From the newest instant on which it is based to the window's end; at least 0."""
    contribution: float
    """Its share in the fused result; the shares of a decision sum to 1."""
    source: str
    """As `Evidence.source`; likewise ``engine`` and ``rivals``."""
    engine: str
    encode_ns: int
    """How long its encoder took for this window."""
    rivals: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Latency:
    """Where the time went between a window's end and the hand-over of its decision, in ns."""

    align: int
    encode: int
    fuse: int
    total: int


@dataclass(frozen=True, slots=True)
class Decision:
    """The fused answer for one window."""

    session: str
    seq: int
    """Counts published decisions of a session from 0, without gaps."""
    start_ns: int
    end_ns: int
    label: str | None
    """None when it abstained."""
    confidence: float
    """Probability of the most probable label, 0..1."""
    conflict: float
    """0 (the modalities agree) .. 1 (they exclude one another)."""
    rule: str
    probabilities: Mapping[str, float]
    dimensions: Mapping[str, float]
    modalities: Mapping[Modality, Contribution]
    missing: Mapping[Modality, Absence]
    latency: Latency

    @property
    def abstained(self) -> bool:
        """Whether nothing was sensed, or the result was not sure enough to name a label."""
        return self.label is None

    @property
    def id(self) -> str:
        """Unique over sessions, and the same in every replay of one."""
        return f"{self.session}-{self.seq}"


@dataclass(frozen=True, slots=True, eq=False)
class Course:
    """How the encoders fared in a window: what depends on how long things took, and makes a replay exact."""

    given: Mapping[Modality, Sequence[Sample]] = field(default_factory=dict)
    """What each encoder that was set to work was given, before ``[align]`` chose from it."""
    spared: frozenset[Modality] = frozenset()
    """Left out by the compute budget."""
    late: frozenset[Modality] = frozenset()
    """Set to work, but not done in time: what they found was of no use."""
    failed: frozenset[Modality] = frozenset()
    """Set to work, and could not read it."""


@dataclass(frozen=True, slots=True, eq=False)
class Decided:
    """What came of one window: the decision, and what it was made of."""

    window: Window
    readings: Mapping[Modality, Reading]
    """Of the encoders that ran and did not fail."""
    decision: Decision
    course: Course = Course()

    @property
    def utterances(self) -> tuple[Utterance, ...]:
        """Those that ended in it."""
        return tuple(utterance for reading in self.readings.values() for utterance in reading.utterances)
