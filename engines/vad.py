"""Voice activity: where in a stream of sound somebody speaks.

silero VAD (github.com/snakers4/silero-vad, MIT) gives a probability of speech for each 32 ms; a `Segmenter` makes
utterances of them. A `Listener` is both for one source, and keeps the time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from agent.types import AUDIO_RATE_HZ, F32, Audio, Sample, Utterance
from engines import Engine

CHUNK = 512
"""Samples that silero takes at a time: 32 ms."""
CONTEXT = 64
"""Samples of the chunk before, which stand before each chunk (silero's ``utils_vad.py``, ``OnnxWrapper``)."""
CHUNK_NS = CHUNK * 1_000_000_000 // AUDIO_RATE_HZ


@dataclass(frozen=True, slots=True, eq=False)
class Chunk:
    """32 ms of sound, and whether it is speech."""

    pcm: F32
    """(CHUNK,)."""
    t_ns: int
    prob: float
    """Of speech, 0..1."""
    speech: bool
    """``prob`` with hysteresis."""
    level: float
    """Root mean square, full scale being 1."""

    @property
    def end_ns(self) -> int:
        return self.t_ns + CHUNK_NS


@dataclass(frozen=True, slots=True)
class Thresholds:
    """When speech begins and ends. Silero's defaults, but for the hangover, which is that of a person thinking."""

    onset: float = 0.5
    """Speech begins at this probability…"""
    offset: float = 0.35
    """…and ends below this one."""
    least_ns: int = 250_000_000
    """What is shorter is no utterance."""
    hangover_ns: int = 500_000_000
    """Silence that ends an utterance."""
    most_ns: int = 20_000_000_000
    """An utterance that grows longer is cut in two, at the least likely chunk of its last `search_ns`."""
    search_ns: int = 3_000_000_000
    pad: int = 2
    """Chunks kept before the first and behind the last chunk of speech."""
    gap_ns: int = 50_000_000
    """Missing sound that ends an utterance and lets the detector forget."""


class Vad:
    """silero's probabilities for one stream. Several of them may share an engine: the state is kept here.

    The model is the one that silero calls ``sequence``: it takes all chunks that are there in one call, which costs
    half of one call a chunk and gives the same numbers.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.reset()

    def reset(self) -> None:
        """Forget what was heard."""
        self._hidden = self._cell = np.zeros((1, 1, 128), np.float32)
        self._context = np.zeros(CONTEXT, np.float32)

    def probabilities(self, pcm: F32) -> F32:
        """Of speech in each chunk, (n,), of `pcm` (n * CHUNK,), which is what comes next in the stream."""
        frames = np.empty((len(pcm) // CHUNK, CONTEXT + CHUNK), np.float32)
        frames[:, CONTEXT:] = pcm.reshape(-1, CHUNK)
        frames[0, :CONTEXT] = self._context
        frames[1:, :CONTEXT] = frames[:-1, -CONTEXT:]
        result = self._engine.infer({"input": frames, "h": self._hidden, "c": self._cell})
        self._hidden, self._cell, self._context = result["hn"], result["cn"], frames[-1, -CONTEXT:]
        return np.asarray(result["speech_probs"], np.float32)


class Segmenter:
    """Collects chunks into utterances."""

    def __init__(self, source: str, thresholds: Thresholds) -> None:
        self._source = source
        self._thresholds = thresholds
        self._before: deque[Chunk] = deque(maxlen=thresholds.pad)
        self._running: list[Chunk] = []
        self._first = 0
        """Index in `_running` of the first chunk of speech, behind the padding."""
        self._last = -1
        """Index of the last one."""

    def push(self, chunk: Chunk) -> Utterance | None:
        """The utterance that ended with this chunk, if one did."""
        t = self._thresholds
        if not self._running:
            if chunk.speech:
                self._begin([*self._before, chunk])
            else:
                self._before.append(chunk)
            return None
        self._running.append(chunk)
        if chunk.speech:
            self._last = len(self._running) - 1
        silence = len(self._running) - 1 - self._last
        if silence * CHUNK_NS >= t.hangover_ns:
            return self.close()
        if len(self._running) * CHUNK_NS >= t.most_ns:
            return self._cut()
        return None

    def close(self) -> Utterance | None:
        """End the running utterance here: the stream has a gap, or is over."""
        running, first, last = self._running, self._first, self._last
        end = last + 1 + self._thresholds.pad
        self._running = []
        self._before.clear()
        self._before.extend(running[end:])
        if not running or (last + 1 - first) * CHUNK_NS < self._thresholds.least_ns:
            return None
        return self._utterance(running[:end])

    def _begin(self, chunks: list[Chunk]) -> None:
        speech = [i for i, chunk in enumerate(chunks) if chunk.speech]
        self._running, self._first, self._last = (chunks, speech[0], speech[-1]) if speech else ([], 0, -1)

    def _cut(self) -> Utterance:
        n = min(self._thresholds.search_ns // CHUNK_NS, len(self._running) - 1)
        at = len(self._running) - n + int(np.argmin([chunk.prob for chunk in self._running[-n:]]))
        done, rest = self._running[:at], self._running[at:]
        self._before.clear()
        self._begin(rest)
        return self._utterance(done)

    def _utterance(self, chunks: list[Chunk]) -> Utterance:
        pcm = np.concatenate([chunk.pcm for chunk in chunks])
        return Utterance(self._source, pcm, chunks[0].t_ns, chunks[-1].end_ns)


class Listener:
    """Follows one source, block by block."""

    def __init__(self, source: str, engine: Engine, *, keep_ns: int, thresholds: Thresholds | None = None) -> None:
        """`keep_ns` is how long `chunks` are kept; utterances are kept for as long as they run, apart from that."""
        self._thresholds = thresholds or Thresholds()
        self._vad = Vad(engine)
        self._segmenter = Segmenter(source, self._thresholds)
        self._left = np.zeros(0, np.float32)
        self._left_ns = 0
        """When the first sample in `_left` was produced."""
        self._speech = False
        self.chunks: deque[Chunk] = deque(maxlen=-(-keep_ns // CHUNK_NS))
        """The newest ones, oldest first."""
        self.heard_ns: int | None = None
        """End of the newest block."""
        self.faulty = 0
        """Blocks that held NaN or infinity, and were taken for silence."""
        self.gaps = 0
        """How often sound was missing."""

    def hear(self, samples: Sequence[Sample]) -> list[Utterance]:
        """Take in blocks of this source, oldest first, and return the utterances that ended in them.

        A block that ends no later than one heard before is passed over: overlapping windows bring blocks again.
        """
        closed: list[Utterance] = []
        pieces: list[tuple[F32, int]] = []
        for sample in samples:
            if self.heard_ns is not None and sample.end_ns <= self.heard_ns:
                continue
            if self.heard_ns is not None and sample.t_ns - self.heard_ns > self._thresholds.gap_ns:
                self.gaps += 1
                closed += self._judge(pieces)
                pieces = []
                closed += self.flush()
            pieces += self._pieces(self._sound(sample), sample.t_ns)
            self.heard_ns = sample.end_ns
        return closed + self._judge(pieces)

    def flush(self) -> list[Utterance]:
        """End what is running and forget: what comes next does not follow on."""
        self._vad.reset()
        self._left, self._speech = np.zeros(0, np.float32), False
        ended = self._segmenter.close()
        return [ended] if ended else []

    def _sound(self, sample: Sample) -> F32:
        if not isinstance(sample.payload, Audio):
            raise TypeError(f"{sample.source}: a listener takes Audio, was given {type(sample.payload).__name__}")
        pcm = sample.payload.pcm
        if np.isfinite(pcm).all():
            return pcm
        self.faulty += 1
        return np.zeros_like(pcm)

    def _judge(self, pieces: Sequence[tuple[F32, int]]) -> list[Utterance]:
        """Make chunks of pieces, all in one go."""
        if not pieces:
            return []
        closed = []
        pcm = np.concatenate([piece for piece, _ in pieces])
        probs = self._vad.probabilities(pcm)
        levels = np.sqrt(np.mean(np.square(pcm.reshape(-1, CHUNK)), axis=1))
        for (piece, t_ns), prob, level in zip(pieces, probs.tolist(), levels.tolist(), strict=True):
            self._speech = prob >= (self._thresholds.offset if self._speech else self._thresholds.onset)
            chunk = Chunk(piece, t_ns, prob, self._speech, level)
            self.chunks.append(chunk)
            closed.append(self._segmenter.push(chunk))
        return [utterance for utterance in closed if utterance]

    def _pieces(self, pcm: F32, t_ns: int) -> list[tuple[F32, int]]:
        """What was left with `pcm` behind it, in chunks, each with the instant of its first sample."""
        left = len(self._left)
        if left == 0:
            self._left_ns = t_ns
        whole = np.concatenate([self._left, pcm])
        starts = range(0, len(whole) - CHUNK + 1, CHUNK)
        pieces = [
            (whole[start : start + CHUNK], self._left_ns if start < left else _later(t_ns, start - left))
            for start in starts
        ]
        if pieces:
            self._left_ns = _later(t_ns, len(starts) * CHUNK - left)
        self._left = whole[len(starts) * CHUNK :]
        return pieces


def _later(t_ns: int, samples: int) -> int:
    return t_ns + samples * 1_000_000_000 // AUDIO_RATE_HZ
