"""The encoder for text: what somebody typed or said, in English or Chinese, to evidence.

English: word pieces → MiniLM, fine-tuned → logits → a head that calibrates them. Chinese, where its models are there:
word pieces → multilingual-e5 → a head. Emoji are spelled out first.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from weakref import WeakKeyDictionary

import numpy as np

from agent.seams import EncoderError
from agent.types import F32, F64, Evidence, Modality, Reading, Sample, Text
from engines import Backend
from engines.head import Head, ProjectedHead
from engines.models import ModelStore
from engines.sentences import SentenceReader
from engines.wording import language, quality, quality_chinese, spell_out

log = logging.getLogger(__name__)

HALF_LIFE_NS = 3_000_000_000
"""A text counts half as much as one that came this much later."""
MOST_NEW = 16
"""New texts that are read in one window; of a flood the older ones are passed over, or it would hold the window up."""


CHINESE = ("chinese-encoder", "chinese-tokenizer")
"""Models without which Chinese texts are not read."""


@dataclass(frozen=True, slots=True, eq=False)
class Tongue:
    """What reads one language."""

    reader: SentenceReader
    head: ProjectedHead
    """Of what the reader gives as features."""


@dataclass(frozen=True, slots=True, eq=False)
class _Said:
    """What one text says by itself."""

    probs: F64
    """(K,)."""
    prior: F64
    """(K,), under which they hold: that of the head of its language."""
    quality: float
    embedding: F32 | None
    """(D,); None where the reader of its language has none."""
    engine: str
    """Of what read it."""


class LanguageEncoder:
    """Evidence from texts.

    Of several texts of one source the posteriors are pooled: a geometric mean, in which a text weighs by its quality
    and half as much as one that ends `HALF_LIFE_NS` later; and so are their priors, which differ by language. So a
    thought that was sent in two messages is read as one, and a change of mind is believed after a few seconds. Of
    several sources (typed, spoken) the one decides whose pooled quality, aged by the same half-life against the newest
    text of all, is best; the others are `rivals`.

    A text without a letter or an emoji is no evidence, nor is one in a language that is not among the `languages`,
    which is reported as unread. What is not tagged and not Chinese is taken for English; where it does not look like
    it, it is evidence of low quality.
    """

    modality = Modality.TEXT

    def __init__(
        self, english: Tongue, chinese: Callable[[], Tongue] | None = None, *, languages: Sequence[str] | None = None
    ) -> None:
        """Both speak the agent's labels; `chinese` is called when the first such text comes.

        `languages` are the primary subtags (BCP 47) of what is read, all that there is a reader of where they are None.
        Raises `EncoderError` where there is none of one of them.
        """
        known = ("en", "zh") if chinese else ("en",)
        if other := [name for name in languages or () if name not in known]:
            raise EncoderError(
                f"[encoders.text] languages: no model that is there reads {', '.join(other)}, only {', '.join(known)};"
                f" zh wants: launch.py models fetch {' '.join(CHINESE)}"
            )
        self.languages = tuple(languages or known)
        self._english = english
        self._open_chinese = chinese
        self._chinese: Tongue | None = None
        self._said: WeakKeyDictionary[Sample, _Said | None] = WeakKeyDictionary()

    @classmethod
    def open(
        cls,
        store: ModelStore,
        *,
        labels: Sequence[str],
        mapping: Mapping[str, str] | None = None,
        languages: Sequence[str] | None = None,
        backend: Backend = "auto",
        threads: int = 1,
    ) -> LanguageEncoder:
        """The encoder with the models of `store`; `mapping` renames the head's labels to the agent's `labels`.

        Raises `ModelError`, `EngineError`, `HeadError`, and `EncoderError` as the constructor.
        """
        head = Head.load(store.path("language-head"))
        english = Tongue(SentenceReader.open(store, backend=backend, threads=threads), head.onto(labels, mapping))
        if not all(store.file(store.model(name)).exists() for name in CHINESE):
            return cls(english, languages=languages)
        for name in CHINESE:
            store.path(name)  # what is wrong with it is said now, not when the first text comes
        other = Head.load(store.path("chinese-head"))
        if other.labels != head.labels:
            log.warning("Chinese is not read: its head has the labels %s, not language-head's", ", ".join(other.labels))
            return cls(english, languages=languages)

        def chinese() -> Tongue:
            reader = SentenceReader.open(store, "chinese", backend=backend, threads=threads)
            return Tongue(reader, other.onto(labels, mapping))

        return cls(english, chinese, languages=languages)

    def encode(self, samples: Sequence[Sample], end_ns: int) -> Reading:
        """See `agent.seams.Encoder`. Samples that are not text are a bug of the caller."""
        unread = self._read([sample for sample in samples if sample not in self._said])
        by_source: dict[str, list[tuple[Sample, _Said]]] = {}
        for sample in samples:
            said = self._said[sample]
            if said is not None:
                by_source.setdefault(sample.source, []).append((sample, said))
        if not by_source:
            return Reading(None, unread=unread)
        pooled = {source: self._pool(source, texts) for source, texts in by_source.items()}
        newest_ns = max(evidence.t_ns for evidence in pooled.values())
        best = max(
            pooled.values(), key=lambda evidence: (evidence.quality * _aged(newest_ns - evidence.t_ns), evidence.t_ns)
        )
        rivals = {source: evidence.quality for source, evidence in pooled.items() if evidence is not best}
        return Reading(replace(best, rivals=rivals) if rivals else best, unread=unread)

    def close(self) -> None:
        for tongue in (self._english, self._chinese):
            if tongue is not None:
                tongue.reader.engine.close()

    def __str__(self) -> str:
        languages = " and ".join({"en": "English", "zh": "Chinese"}[name] for name in self.languages)
        return f"text in {languages} to {', '.join(self._english.head.head.labels)}: {self._english.reader.engine}"

    def _read(self, samples: Sequence[Sample]) -> int:
        """Work out, and remember, what each of these says by itself; of a flood only the newest `MOST_NEW`.

        How many were left out for their language.
        """
        for sample in samples[:-MOST_NEW]:
            self._said[sample] = None
        samples = samples[-MOST_NEW:]
        by_tongue: dict[bool, list[tuple[Sample, list[int], float]]] = {}
        unread = 0
        for sample in samples:
            assert isinstance(sample.payload, Text), f"{sample.source} sent {type(sample.payload).__name__} as text"
            spelled, lang = spell_out(sample.payload.text), sample.payload.lang
            if not spelled:
                self._said[sample] = None
                continue
            spoken = language(spelled, lang)
            if spoken not in self.languages:
                self._said[sample] = None
                unread += 1
                continue
            chinese = spoken == "zh"
            words = self._tongue(chinese=chinese).reader.tokenize(spelled)
            fragments = sum(token.startswith("##") for token in words.tokens)
            trust = quality_chinese(spelled) if chinese else quality(spelled, fragments=fragments, lang=lang)
            by_tongue.setdefault(chinese, []).append((sample, words.ids, trust))
        for chinese, batch in by_tongue.items():
            tongue = self._tongue(chinese=chinese)
            read = tongue.reader.read([ids for _, ids, _ in batch])
            posteriors, embeddings = tongue.head.posterior(read["features"]), read.get("embedding", [None] * len(batch))
            for (sample, _, trust), probs, embedding in zip(batch, posteriors, embeddings, strict=True):
                self._said[sample] = _Said(probs, tongue.head.prior, trust, embedding, tongue.reader.engine.backend)
        return unread

    def _tongue(self, *, chinese: bool) -> Tongue:
        if not chinese:
            return self._english
        if self._chinese is None:
            assert self._open_chinese is not None, "else no text is taken for Chinese"
            self._chinese = self._open_chinese()
        return self._chinese

    def _pool(self, source: str, texts: Sequence[tuple[Sample, _Said]]) -> Evidence:
        newest_ns = max(sample.end_ns for sample, _ in texts)
        recency = np.array([_aged(newest_ns - sample.end_ns) for sample, _ in texts])
        qualities = np.array([said.quality for _, said in texts])
        # A text of quality 0 still says what it says where it is alone; its quality tells fusion to leave it out.
        shares = recency * np.maximum(qualities, 1e-6)
        shares /= shares.sum()
        probs, prior = (
            np.exp(shares @ np.log(several))
            for several in ([said.probs for _, said in texts], [said.prior for _, said in texts])
        )
        return Evidence(
            modality=Modality.TEXT,
            source=source,
            probs=probs / probs.sum(),
            prior=prior / prior.sum(),
            quality=float(shares @ qualities),
            t_ns=newest_ns,
            engine=texts[int(shares.argmax())][1].engine,
            embedding=_mean([said.embedding for _, said in texts], shares),
        )


def _mean(embeddings: Sequence[F32 | None], shares: F64) -> F32 | None:
    """(D,), of those that there are, by their shares (N,); None where there is none."""
    there = [(embedding, share) for embedding, share in zip(embeddings, shares, strict=True) if embedding is not None]
    if not there:
        return None
    return np.average([row for row, _ in there], axis=0, weights=[share for _, share in there]).astype(np.float32)


def _aged(age_ns: int) -> float:
    return float(0.5 ** (age_ns / HALF_LIFE_NS))
