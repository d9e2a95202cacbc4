"""What flows through Attune: samples, windows, evidence and decisions.

Every instant is an ``int`` of nanoseconds on one monotonic clock (`agent.clock`). A sample without the instant at
which the world produced it cannot be built. All types here are frozen; arrays inside them are shared, never copied,
and must not be written to.
"""

from agent.types.decision import Contribution, Course, Decided, Decision, Latency
from agent.types.reading import Evidence, Reading, Region, Utterance
from agent.types.sample import (
    AUDIO_RATE_HZ,
    F32,
    F64,
    U8,
    Absence,
    Audio,
    Frame,
    Modality,
    Payload,
    Sample,
    Source,
    Text,
    Watermark,
    Window,
    modality_of,
    nbytes,
)

__all__ = [
    "AUDIO_RATE_HZ",
    "F32",
    "F64",
    "U8",
    "Absence",
    "Audio",
    "Contribution",
    "Course",
    "Decided",
    "Decision",
    "Evidence",
    "Frame",
    "Latency",
    "Modality",
    "Payload",
    "Reading",
    "Region",
    "Sample",
    "Source",
    "Text",
    "Utterance",
    "Watermark",
    "Window",
    "modality_of",
    "nbytes",
]
