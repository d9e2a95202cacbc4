"""The voice encoder: how somebody sounds, whatever they say.

silero VAD finds the speech, the first two layers of Whisper tiny.en and a few prosodic measures describe it, and a head
trained on acted speech (`engines.training.voice`) reads label and arousal from that, the better the longer it has
listened to the same voice (`engines.speaker`).
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from types import MappingProxyType
from typing import Any

import numpy as np

from agent.types import F32, Evidence, Modality, Reading, Sample, Utterance
from engines import Backend, Engine, open_engine
from engines.arousal import ProsodicHead
from engines.familiarity import Familiarity
from engines.follower import Follower, VoiceHead
from engines.head import Projection
from engines.mel import log_mel
from engines.models import ModelStore
from engines.prosody import measure
from engines.speaker import SpeakerHead
from engines.speech import Speech, find_speech
from engines.vad import Listener

log = logging.getLogger(__name__)

MEMORY_NS = 10_000_000_000
"""How far back the noise floor is looked for; also the longest span of a window."""


class VoiceEncoder:
    """Evidence from the samples of one or several microphones. The one that can be heard best decides.

    Its quality is that times how familiar it sounds; that of the `rivals`, which are not read, how well they are heard.
    """

    modality = Modality.AUDIO

    def __init__(
        self,
        *,
        activity: Engine,
        embedding: Engine | None,
        head: VoiceHead[Any],
        projection: Projection,
        familiar: Familiarity | None = None,
    ) -> None:
        """`projection` is from the head's labels to the agent's; without an embedding the head gets prosody alone.

        `familiar` reads the same features as the head; without it every voice counts as familiar.
        """
        self._activity = activity
        self._embedding = embedding
        self._head = head
        self._projection = projection
        self._familiar = familiar
        self._prior = projection.prior(head.prior)
        self._listeners: dict[str, Listener] = {}
        self._followers: dict[str, Follower[Any]] = {}
        self._newest: dict[str, Evidence] = {}
        """By source, the last evidence; its quality is how familiar it sounded."""

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
        head = SpeakerHead.load(store.path("voice-head"))
        return cls(
            activity=open_engine(store.path("voice-activity"), "onnxruntime"),
            embedding=open_engine(store.path(model), backend),
            head=head,
            projection=Projection(head.labels, labels, mapping),
            familiar=Familiarity.load(store.path("voice-familiar")),
        )

    @classmethod
    def open_untrained(
        cls, store: ModelStore, *, labels: Sequence[str], mapping: Mapping[str, str] | None = None
    ) -> VoiceEncoder:
        """With arousal from prosody for a head: no weights that were trained on speech somebody keeps rights in."""
        head = ProsodicHead()
        activity = open_engine(store.path("voice-activity"), "onnxruntime")
        return cls(activity=activity, embedding=None, head=head, projection=Projection(head.labels, labels, mapping))

    def encode(self, samples: Sequence[Sample], end_ns: int) -> Reading:
        utterances: list[Utterance] = []
        found: dict[str, Speech] = {}
        for source, group in groupby(sorted(samples, key=lambda sample: sample.source), lambda sample: sample.source):
            blocks = list(group)
            utterances += self._hear(source, blocks)
            speech = find_speech(self._listeners[source].chunks, since_ns=blocks[0].t_ns)
            if speech is not None:
                found[source] = speech
        sounding = self._sounding({sample.source for sample in samples})
        if not found:
            return Reading(None, tuple(utterances), speech=sounding)
        best = max(found, key=lambda source: found[source].quality)
        rivals = {source: speech.quality for source, speech in found.items() if source != best}
        evidence = replace(self._evidence(best, found[best]), rivals=MappingProxyType(rivals))
        return Reading(evidence, tuple(utterances), speech=sounding)

    def forget(self, source: str) -> None:
        """Drop what is remembered of a source: it comes no more, or somebody else speaks into it."""
        self._listeners.pop(source, None)
        self._followers.pop(source, None)
        self._newest.pop(source, None)

    def close(self) -> None:
        self._activity.close()
        if self._embedding is not None:
            self._embedding.close()

    def __str__(self) -> str:
        return f"voices to labels: {self._embedding or 'pitch and tilt alone'}"

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

    def _sounding(self, sources: Collection[str]) -> float | None:
        """Probability of speech in the newest 32 ms that were heard of them; None where that much was not heard."""
        newest = [listener.chunks[-1] for source in sources if (listener := self._listeners[source]).chunks]
        return max(((chunk.t_ns, chunk.prob) for chunk in newest), default=(0, None))[1]

    def _evidence(self, source: str, speech: Speech) -> Evidence:
        """What `speech` sounds like, in the voice that was heard before; worked out anew when the follower wants it."""
        follower = self._followers.setdefault(source, Follower(self._head))
        if follower.wants(speech):
            heard = features(speech.pcm, self._embedding)
            z = self._head.place(heard[np.newaxis])[0]
            own = follower.read(speech, z)
            arousal = self._head.arousal(own)
            self._newest[source] = Evidence(
                modality=Modality.AUDIO,
                source=source,
                probs=self._projection.posterior(own[np.newaxis])[0],
                prior=self._prior,
                quality=1.0 if self._familiar is None else float(self._familiar.of(heard[np.newaxis])[0]),
                t_ns=speech.end_ns,
                engine=(self._embedding or self._activity).backend,
                dimensions=MappingProxyType({} if arousal is None else {"arousal": arousal}),
                embedding=heard if self._embedding else None,
            )
        follower.settle(speech)
        newest = self._newest[source]
        return replace(newest, quality=newest.quality * speech.quality)


def features(pcm: F32, embedding: Engine | None) -> F32:
    """What the head reads of a stretch of speech, (771,): Whisper's embedding, then tilt, pitch and voicing.

    Without an embedding the last three alone. None depends on how loud the recording is.
    """
    prosody = measure(pcm)
    last = np.array([prosody.tilt, prosody.pitch, prosody.voiced], np.float32)
    if embedding is None:
        return last
    return np.concatenate([embedding.infer({"mel": log_mel(pcm)[np.newaxis]})["embedding"][0], last])
