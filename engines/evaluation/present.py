"""Puts labelled items before an encoder as the running agent would, and keeps what it says about each.

A picture is one frame, a text one message. Sound is streamed: blocks of 20 ms in windows cut at the agent's hop, with
a quiet room before each recording and behind it, so that the voice is found, weighed and read as it is in use.
Recordings of one speaker follow one another in one stream, with so long a pause that no window holds two; every other
recording is a stream of its own, of which the encoder knows nothing before.

What is said about a recording is the geometric mean of the posteriors of the windows that heard it, weighted by their
quality; windows that heard nothing new count once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from time import perf_counter_ns
from typing import Protocol, assert_never, runtime_checkable

import numpy as np

from agent.seams import Encoder
from agent.types import AUDIO_RATE_HZ, F32, F64, U8, Audio, Evidence, Frame, Modality, Reading, Sample, Source, Text
from agent.window import SlidingWindow
from engines.evaluation.dataset import Item

BLOCK = AUDIO_RATE_HZ // 50
SAMPLE_NS = 1_000_000_000 // AUDIO_RATE_HZ
APART_NS = 60_000_000_000
"""Between pictures, and between texts: more than any window holds."""
_FRAME = 512
"""Samples over which the level of a recording's quietest part is measured: 32 ms."""
_LEAST_WEIGHT = 1e-3
"""Of a window in the mean, so that those of quality 0 still say something among themselves."""


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """What an encoder says about one item."""

    item: Item
    probs: F64 | None
    """(K,) over the agent's labels; None where there was no evidence."""
    prior: F64 | None
    """(K,), as in `agent.types.Evidence`; None without evidence."""
    quality: float
    """0..1, mean over the windows; 0 without evidence."""
    arousal: float | None
    """0..1, where the encoder reads it."""
    embedding: F32 | None
    """(D,), as in `agent.types.Evidence`, the mean over the windows; None without evidence."""
    encode_ns: int
    """Time spent in the encoder."""
    stream_ns: int
    """Time that its windows advanced: of a recording its length and up to a hop; 0 for what is an instant."""


class Items(Protocol):
    """Items that are read one by one; raises `engines.evaluation.dataset.DataError` where one cannot be."""

    @property
    def items(self) -> Sequence[Item]:
        """In the order in which they are put before the encoder."""

    def picture(self, item: Item) -> U8:
        """(H, W, 3) BGR."""

    def sound(self, item: Item) -> F32:
        """(T,) mono at `AUDIO_RATE_HZ`."""

    def text(self, item: Item) -> str:
        """Maybe empty."""


@runtime_checkable
class Remembers(Protocol):
    """An encoder that keeps something about each source."""

    def forget(self, source: str) -> None:
        """Drop it: the source comes no more."""


def answers(encoder: Encoder, data: Items, *, span_ns: int, hop_ns: int) -> Iterator[Answer]:
    """What the encoder says, one item after the other; those of one speaker together.

    Raises `engines.evaluation.dataset.DataError` at an item that cannot be read, and `agent.seams.EncoderError`.
    """
    match encoder.modality:
        case Modality.VISION:
            yield from _instants(encoder, data, lambda item: Frame(data.picture(item)))
        case Modality.TEXT:
            yield from _instants(encoder, data, lambda item: Text(text) if (text := data.text(item).strip()) else None)
        case Modality.AUDIO:
            for number, items in enumerate(_streams(data.items)):
                stream = _Stream(encoder, f"recording {number}", span_ns=span_ns, hop_ns=hop_ns)
                for item in items:
                    yield stream.hear(item, data.sound(item))
                if isinstance(encoder, Remembers):
                    encoder.forget(stream.source)
        case _ as never:
            assert_never(never)


def _instants(encoder: Encoder, data: Items, load: Callable[[Item], Frame | Text | None]) -> Iterator[Answer]:
    for item, t_ns in zip(data.items, count(APART_NS, APART_NS), strict=False):
        payload = load(item)
        if payload is None:  # an empty message: no source delivers one
            yield _answer(item, [], encode_ns=0, stream_ns=0)
            continue
        reading, encode_ns = _timed(encoder, [Sample("item", payload, t_ns, t_ns, t_ns)], t_ns)
        yield _answer(item, [reading.evidence] if reading.evidence else [], encode_ns=encode_ns, stream_ns=0)


def _streams(items: Sequence[Item]) -> list[list[Item]]:
    """Each speaker's items in their order, items without a speaker each alone; in the order of their first ones."""
    found: dict[str | int, list[Item]] = {}
    for item in items:
        found.setdefault(item.line if item.speaker is None else item.speaker, []).append(item)
    return list(found.values())


class _Stream:
    """One microphone, from its first sound on."""

    def __init__(self, encoder: Encoder, source: str, *, span_ns: int, hop_ns: int) -> None:
        self.source = source
        self._encoder = encoder
        self._hop_ns = hop_ns
        self._pause = -(-span_ns // SAMPLE_NS)
        self._heard = 0
        """Samples so far."""
        self._window = SlidingWindow(
            [Source(source, Modality.AUDIO)], spans_ns={Modality.AUDIO: span_ns}, hop_ns=hop_ns, lateness_ns=0
        )

    def hear(self, item: Item, pcm: F32) -> Answer:
        """A pause as long as a window, the recording, and what is left to the end of the next window."""
        room = room_tone(pcm, self._pause + self._hop_ns // SAMPLE_NS + 1, seed=item.line)
        start_ns = (self._heard + self._pause) * SAMPLE_NS
        end_ns = start_ns + len(pcm) * SAMPLE_NS
        rest = -(-end_ns // self._hop_ns) * self._hop_ns - end_ns
        tail = -(-rest // SAMPLE_NS)
        found: dict[int, Evidence] = {}
        encode_ns = 0
        for reading, window_ns, took_ns in self._play(np.concatenate([room[: self._pause], pcm, room[:tail]])):
            if window_ns <= start_ns:
                continue
            encode_ns += took_ns
            if reading.evidence:
                found[reading.evidence.t_ns] = reading.evidence
        return _answer(item, list(found.values()), encode_ns=encode_ns, stream_ns=end_ns + rest - start_ns)

    def _play(self, pcm: F32) -> Iterator[tuple[Reading, int, int]]:
        """Of each window that ends in `pcm`: what is read in it, its end, and how long that took; both in ns."""
        for start in range(0, len(pcm), BLOCK):
            block = pcm[start : start + BLOCK]
            t_ns, end_ns = (n * SAMPLE_NS for n in (self._heard, self._heard + len(block)))
            self._heard += len(block)
            self._window.add(Sample(self.source, Audio(block), t_ns, end_ns, end_ns))
            for window in self._window.cut(end_ns):
                reading, took_ns = _timed(self._encoder, window.parts.get(Modality.AUDIO, ()), window.end_ns)
                yield reading, window.end_ns, took_ns


def room_tone(pcm: F32, length: int, *, seed: int) -> F32:
    """(length,) of white noise as loud as `pcm` is where it is quietest (the twentieth part of its frames).

    Silence that is quieter than the recording would make it seem cleaner than it is.
    """
    frames = pcm[: len(pcm) // _FRAME * _FRAME].reshape(-1, _FRAME)
    levels = np.sqrt(np.mean(np.square(frames), axis=1))
    level = float(np.quantile(levels, 0.05)) if len(levels) and np.isfinite(levels).all() else 0.0
    return (level * np.random.default_rng(seed).standard_normal(length)).astype(np.float32)


def _timed(encoder: Encoder, samples: Sequence[Sample], end_ns: int) -> tuple[Reading, int]:
    begin_ns = perf_counter_ns()
    reading = encoder.encode(samples, end_ns)
    return reading, perf_counter_ns() - begin_ns


def _answer(item: Item, evidence: Sequence[Evidence], *, encode_ns: int, stream_ns: int) -> Answer:
    if not evidence:
        return Answer(item, None, None, 0.0, None, None, encode_ns, stream_ns)
    weights = np.array([_LEAST_WEIGHT + e.quality for e in evidence])
    logs = np.average([np.log(e.probs) for e in evidence], axis=0, weights=weights)
    probs = np.exp(logs - logs.max())
    embeddings = [e.embedding for e in evidence if e.embedding is not None]
    arousal = [e.dimensions["arousal"] for e in evidence if "arousal" in e.dimensions]
    return Answer(
        item=item,
        probs=probs / probs.sum(),
        prior=evidence[-1].prior,
        quality=float(np.mean([e.quality for e in evidence])),
        arousal=float(np.average(arousal, weights=weights)) if len(arousal) == len(evidence) else None,
        embedding=(
            np.average(embeddings, axis=0, weights=weights).astype(np.float32)
            if len(embeddings) == len(evidence)
            else None
        ),
        encode_ns=encode_ns,
        stream_ns=stream_ns,
    )
