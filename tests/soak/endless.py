"""A session without an end: every source delivers, and is late, repeats itself, fails and comes back now and then."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from heapq import merge

import numpy as np

from agent.clock import MS, SECOND
from agent.types import Audio, Frame, Modality, Sample, Source, Text, Watermark
from agent.window import SourceState

Event = Sample | Watermark
Mark = Callable[[str, SourceState], None]

SOURCES = (
    Source("camera", Modality.VISION),
    Source("microphone", Modality.AUDIO),
    Source("text", Modality.TEXT, late_by_ns=10 * SECOND),
)
FRAME_NS, BLOCK_NS, BEAT_NS = 100 * MS, 20 * MS, 100 * MS
OUTAGE_EVERY_NS, OUTAGE_NS = 600 * SECOND, 5 * SECOND
"""Camera and microphone fail in turns."""


def events(until_ns: int, mark: Mark) -> Iterator[Event]:
    """Everything until then, in the order of arrival; ``mark`` is told of the outages when they come."""
    streams = (_frames(until_ns, mark), _blocks(until_ns, mark), _texts(until_ns), _beats(until_ns))
    return iter(merge(*streams, key=lambda event: event.arrival_ns if isinstance(event, Sample) else event.t_ns))


def out(t_ns: int, turn: int) -> bool:
    """Whether the source of that turn, 0 or 1, is out at that instant."""
    outage, since_ns = divmod(t_ns, OUTAGE_EVERY_NS)
    return outage > 0 and outage % 2 == turn and since_ns < OUTAGE_NS


def _marked(t_ns: int, turn: int, source: str, mark: Mark, was_out: bool) -> bool:
    now_out = out(t_ns, turn)
    if now_out != was_out:
        mark(source, SourceState.FAILED if now_out else SourceState.LIVE)
    return now_out


def _frames(until_ns: int, mark: Mark) -> Iterator[Event]:
    failed = False
    for n, t_ns in enumerate(range(0, until_ns, FRAME_NS)):
        failed = _marked(t_ns, 0, "camera", mark, failed)
        if not failed:
            bgr = np.full((120, 160, 3), n % 256, np.uint8)
            late_ns = SECOND if n % 1000 == 999 else 3 * MS  # too late for its window
            yield Sample("camera", Frame(bgr), t_ns, t_ns, t_ns + late_ns)


def _blocks(until_ns: int, mark: Mark) -> Iterator[Event]:
    failed = False
    for n, end_ns in enumerate(range(BLOCK_NS, until_ns, BLOCK_NS)):
        failed = _marked(end_ns, 1, "microphone", mark, failed)
        if not failed:
            block = Sample("microphone", Audio(np.full(320, n % 2, np.float32)), end_ns - BLOCK_NS, end_ns, end_ns)
            yield from itertools.repeat(block, 2 if n % 5000 == 4999 else 1)  # a duplicate


def _texts(until_ns: int) -> Iterator[Event]:
    for n, t_ns in enumerate(range(7 * SECOND, until_ns, 7 * SECOND)):
        late_ns = (n % 4) * 2 * SECOND  # some overtake others
        yield Sample(
            "text", Text(f"message {n}, which is as long as people write"), t_ns - late_ns, t_ns - late_ns, t_ns
        )


def _beats(until_ns: int) -> Iterator[Event]:
    return (Watermark("text", t_ns) for t_ns in range(0, until_ns, BEAT_NS))
