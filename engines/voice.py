"""The voice encoder: how somebody sounds, whatever they say.

silero VAD finds the speech, the first two layers of Whisper tiny.en and a few prosodic measures describe it, and
linear heads trained on acted speech (`engines.training.voice`) read label and arousal from that.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, pairwise
from types import MappingProxyType

import numpy as np

from agent.types import AUDIO_RATE_HZ, F32, Evidence, Modality, Reading, Sample, Utterance
from engines import Backend, Engine, open_engine
from engines.head import Head, ProjectedHead
from engines.mel import log_mel
from engines.models import ModelStore
from engines.prosody import level_db, measure
from engines.vad import CHUNK_NS, Chunk, Listener

log = logging.getLogger(__name__)

LEAST_NS = 500_000_000
"""Less speech than this in a window says nothing."""
PAUSE = 10
"""Chunks (0.32 s): a shorter pause belongs to the speech around it."""
MEMORY_NS = 10_000_000_000
"""How far back the noise floor is looked for; also the longest span of a window."""
CLIP = 0.99
"""Samples at this level count as clipped."""
HIGH = "high"
"""The label of the arousal head that ``dimensions["arousal"]`` is the probability of."""


@dataclass(frozen=True, slots=True, eq=False)
class Speech:
    """The speech in a window of one source."""

    pcm: F32
    """(T,), its stretches one behind the other."""
    end_ns: int
    """When the newest of it was produced."""
    seconds: float
    """How much of it is speech, pauses not counted."""
    quality: float
    """0..1."""


class VoiceEncoder:
    """Evidence from the samples of one or several microphones. The one with the best quality decides."""

    modality = Modality.AUDIO

    def __init__(self, *, activity: Engine, embedding: Engine, head: ProjectedHead, arousal: Head) -> None:
        """Of `arousal`, one label must be `HIGH`."""
        self._activity = activity
        self._embedding = embedding
        self._head = head
        self._arousal = arousal
        self._listeners: dict[str, Listener] = {}
        self._newest: dict[str, tuple[int, Evidence]] = {}
        """By source: when the newest speech of its last evidence ended, and that evidence."""

    @classmethod
    def open(
        cls,
        store: ModelStore,
        *,
        labels: Sequence[str],
        mapping: Mapping[str, str] | None = None,
        backend: Backend = "auto",
        model: str = "voice-encoder",
    ) -> VoiceEncoder:
        """With the models of the lock file. Raises `engines.models.ModelError`, `EngineError` and `HeadError`.

        Voice activity always runs on ONNX Runtime: a recurrent net on chunks of 32 ms is no work for a GPU.
        """
        return cls(
            activity=open_engine(store.path("voice-activity"), "onnxruntime"),
            embedding=open_engine(store.path(model), backend),
            head=Head.load(store.path("voice-head")).onto(labels, mapping),
            arousal=Head.load(store.path("voice-arousal")),
        )

    def encode(self, samples: Sequence[Sample], end_ns: int) -> Reading:
        utterances: list[Utterance] = []
        found: dict[str, Speech] = {}
        for source, group in groupby(sorted(samples, key=lambda sample: sample.source), lambda sample: sample.source):
            blocks = list(group)
            utterances += self._hear(source, blocks)
            speech = find_speech(self._listeners[source].chunks, since_ns=blocks[0].t_ns)
            if speech is not None:
                found[source] = speech
        if not found:
            return Reading(None, tuple(utterances))
        best = max(found, key=lambda source: found[source].quality)
        rivals = {source: speech.quality for source, speech in found.items() if source != best}
        evidence = replace(self._evidence(best, found[best]), rivals=MappingProxyType(rivals))
        return Reading(evidence, tuple(utterances))

    def forget(self, source: str) -> None:
        """Drop what is remembered of a source: it comes no more, or somebody else speaks into it."""
        self._listeners.pop(source, None)
        self._newest.pop(source, None)

    def close(self) -> None:
        self._activity.close()
        self._embedding.close()

    def _hear(self, source: str, blocks: Sequence[Sample]) -> list[Utterance]:
        listener = self._listeners.get(source)
        if listener is None:
            listener = self._listeners[source] = Listener(source, self._activity, keep_ns=MEMORY_NS)
        faulty = listener.faulty
        utterances = listener.hear(blocks)
        if listener.faulty > faulty == 0:
            log.warning(
                "%s: sound with NaN or infinity in it, taken for silence (said once; look at its driver)", source
            )
        return utterances

    def _evidence(self, source: str, speech: Speech) -> Evidence:
        """What `speech` sounds like; worked out anew only when there is newer speech than the last time."""
        known = self._newest.get(source)
        if known is not None and known[0] == speech.end_ns:
            return replace(known[1], quality=speech.quality)
        x = features(speech.pcm, self._embedding)[np.newaxis]  # (1, D)
        arousal = float(self._arousal.posterior(x)[0, self._arousal.labels.index(HIGH)])
        evidence = Evidence(
            modality=Modality.AUDIO,
            source=source,
            probs=self._head.posterior(x)[0],
            prior=self._head.prior,
            quality=speech.quality,
            t_ns=speech.end_ns,
            engine=self._embedding.backend,
            dimensions=MappingProxyType({"arousal": arousal}),
        )
        self._newest[source] = speech.end_ns, evidence
        return evidence


def features(pcm: F32, embedding: Engine) -> F32:
    """What the heads read of a stretch of speech, (771,): Whisper's embedding, then tilt, pitch and voicing.

    Neither depends on how loud the recording is.
    """
    prosody = measure(pcm)
    whisper = embedding.infer({"mel": log_mel(pcm)[np.newaxis]})["embedding"][0]
    return np.concatenate([whisper, np.array([prosody.tilt, prosody.pitch, prosody.voiced], np.float32)])


def find_speech(chunks: Sequence[Chunk], *, since_ns: int) -> Speech | None:
    """The speech in those of `chunks` that begin no earlier than `since_ns`; None if it is less than `LEAST_NS`.

    The older chunks are looked at for the noise floor only.
    """
    window = [chunk for chunk in chunks if chunk.t_ns >= since_ns]
    spoken = [i for i, chunk in enumerate(window) if chunk.speech]
    if len(spoken) * CHUNK_NS < LEAST_NS:
        return None
    keep = set(spoken)
    for left, right in pairwise(spoken):
        if right - left <= PAUSE:
            keep.update(range(left, right))
    pcm = np.concatenate([window[i].pcm for i in sorted(keep)])
    voice = np.concatenate([window[i].pcm for i in spoken])
    seconds = len(voice) / AUDIO_RATE_HZ
    return Speech(pcm, window[spoken[-1]].end_ns, seconds, quality(voice, noise_db(chunks)))


def noise_db(chunks: Sequence[Chunk]) -> float:
    """The noise floor in dB below full scale: the level that a tenth of the chunks stay under (speech has pauses)."""
    levels = np.sqrt(np.mean(np.square([chunk.pcm for chunk in chunks]), axis=1))  # (n,)
    return level_db(np.quantile(levels, 0.1, keepdims=True).astype(np.float32))


def quality(voice: F32, floor_db: float) -> float:
    """0..1: how far `voice` (T,) stands out of the noise, times how little it is clipped, times how long it is.

    Full marks from 20 dB above the floor, without a clipped sample, at two seconds; none at 0 dB, or with a
    twentieth of the samples clipped.
    """
    snr = np.clip((level_db(voice) - floor_db) / 20, 0.0, 1.0)
    clean = np.clip(1 - 20 * np.mean(np.abs(voice) >= CLIP), 0.0, 1.0)
    length = min(1.0, float(np.sqrt(len(voice) / (2 * AUDIO_RATE_HZ))))
    return float(snr * clean * length)
