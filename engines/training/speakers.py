"""Fit a `SpeakerHead` to the features of some speakers, and measure it on others, as a stream.

All fits are in closed form, from sums that are kept for each speaker, so that leaving speakers out costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from agent.types import F32, F64
from engines.evaluation.metrics import TINY, Ints
from engines.evaluation.run import AROUSED
from engines.speaker import SpeakerHead
from engines.training.linear import fit_temperature
from engines.training.utterances import TAUGHT, Bools, Features

SHRINK = 0.1
"""Share of the correlations between features that is taken for chance (Ledoit & Wolf 2004)."""
SPREAD_SHRINK = 0.5
"""The same of how speakers differ, of which there are few."""
TRUST = 0.3
"""See `SpeakerHead.trust`; of 0.15 to 1, 0.3 did best: more for sessions of all labels, less for those of one."""
CHANGE = 0.01
"""See `SpeakerHead.change`."""


@dataclass(frozen=True, slots=True, eq=False)
class Sums:
    """Of one speaker's features in one way of presenting them."""

    counts: F64
    """(K,)."""
    means: F64
    """(K, D), 0 where there are none."""
    scatter: F32
    """(D, D), sum of squares around the means."""


@dataclass(frozen=True, slots=True, eq=False)
class Corpus:
    """Features with what they are."""

    found: Features
    y: Ints
    """(N,)."""
    speakers: np.ndarray
    """(N,), names."""
    labels: tuple[str, ...]
    sums: dict[tuple[str, str], Sums]
    """By speaker and way."""

    @classmethod
    def of(cls, found: Features, y: Ints, speakers: np.ndarray, labels: Sequence[str]) -> Corpus:
        sums = {
            (str(speaker), way): _sums(found.x[mask], y[mask], len(labels))
            for speaker in np.unique(speakers)
            for way in TAUGHT
            if (mask := (speakers == speaker) & (found.way == way)).any()
        }
        return cls(found, y, speakers, tuple(labels), sums)

    def rows(self, speaker: str, way: str) -> Bools:
        return np.asarray((self.speakers == speaker) & (self.found.way == way))


def fit(corpus: Corpus, speakers: Sequence[str]) -> SpeakerHead:
    """A head from these speakers alone.

    Where labels lie, and how speakers differ, is taken from speakers whom the coordinates were not fitted to, each left
    out in turn; on them, streamed, the temperature is found.
    """
    mean, weight = coordinates(corpus, speakers)
    unseen = {}
    for speaker in speakers:
        own = coordinates(corpus, [other for other in speakers if other != speaker])
        unseen[speaker] = _placed(corpus, speaker, own)
    head = _spread(corpus, mean, weight, unseen)
    logits, truth = [], []
    for speaker in speakers:
        others = _spread(corpus, mean, weight, {s: parts for s, parts in unseen.items() if s != speaker})
        z, y = unseen[speaker][0]
        order = np.random.default_rng(0).permutation(len(y))
        logits.append(np.log(np.maximum(stream(others, z[order]), TINY)))
        truth.append(y[order])
    return replace(head, temperature=fit_temperature(np.concatenate(logits), np.concatenate(truth)))


def stream(head: SpeakerHead, z: F64) -> F64:
    """(N, K) posteriors of z (N, d), which one voice says one after the other, each by what came before alone."""
    voice, probs = head.stranger(), np.zeros((len(z), len(head.labels)))
    for i, point in enumerate(z):
        probs[i] = head.posterior(point, voice)
        voice = head.learn(point, voice)
    return probs


def coordinates(corpus: Corpus, speakers: Sequence[str]) -> tuple[F64, F64]:
    """Mean (D,) and weight (D, K - 1) of linear discriminant analysis within speakers, without each one's own mean.

    A way of presenting utterances in which a label is never heard from these speakers is passed over.
    """
    sums = [[corpus.sums[speaker, way] for speaker in speakers if (speaker, way) in corpus.sums] for way in TAUGHT]
    sums = [each for each in sums if each and np.sum([s.counts for s in each], axis=0).all()]
    labels = [additive(np.array([s.means for s in each]), np.array([s.counts for s in each]))[0] for each in sums]
    apart = np.mean([label - label.mean(axis=0) for label in labels], axis=0)  # (K, D)
    every = [s for each in sums for s in each]
    within = np.sum([s.scatter for s in every], axis=0, dtype=np.float64) / np.sum([s.counts for s in every])
    scale = np.sqrt(np.maximum(np.diag(within), 1e-12))
    correlation = (1 - SHRINK) * within / np.outer(scale, scale) + SHRINK * np.eye(len(scale))
    direction = np.linalg.solve(correlation, (apart / scale).T) / scale[:, np.newaxis]  # (D, K)
    return np.mean([label.mean(axis=0) for label in labels], axis=0), direction @ _contrasts(len(apart))


def additive(means: F64, counts: F64) -> tuple[F64, F64]:
    """Means (S, K, D) of cells as a part (K, D) of the label and a part (S, D) of the speaker that is 0 on the mean.

    Each cell that has a count (S, K) weighs the same; labels that a speaker lacks do not bend his part.
    """
    there = (counts > 0)[..., np.newaxis].astype(np.float64)
    of_speaker = np.zeros((means.shape[0], means.shape[2]))
    for _ in range(30):
        of_label = ((means - of_speaker[:, np.newaxis]) * there).sum(axis=0) / there.sum(axis=0)
        of_speaker = ((means - of_label) * there).sum(axis=1) / there.sum(axis=1)
        of_speaker -= of_speaker.mean(axis=0)
    return of_label, of_speaker


Placed = list[tuple[F64, Ints]]
"""Coordinates (N, d) and labels (N,) of one speaker, in each of some ways."""


def _placed(corpus: Corpus, speaker: str, coordinates: tuple[F64, F64]) -> Placed:
    mean, weight = coordinates
    return [
        ((corpus.found.x[mask].astype(np.float64) - mean) @ weight, corpus.y[mask])
        for way in TAUGHT
        if (mask := corpus.rows(speaker, way)).any()
    ]


def _spread(corpus: Corpus, mean: F64, weight: F64, unseen: dict[str, Placed]) -> SpeakerHead:
    """The head whose centres and covariances are those of `unseen`; its temperature is 1."""
    k, d = len(corpus.labels), weight.shape[1]
    parts = [_sums(z, y, k) for placed in unseen.values() for z, y in placed]
    means, counts = np.array([s.means for s in parts]), np.array([s.counts for s in parts])
    centres, of_speaker = additive(means, counts)
    cells = (means - centres - of_speaker[:, np.newaxis])[counts > 0]
    own = _shrunk(cells.T @ cells / max(1, len(cells) - k - len(parts) + 1))
    between = of_speaker.T @ of_speaker / max(1, len(parts) - 1) - own / k
    values, vectors = np.linalg.eigh(between)
    floor = max(0.05 * float(values.max()), 1e-6)
    return SpeakerHead(
        mean=mean,
        weight=np.asarray(weight, np.float32),
        centres=centres,
        within=np.sum([s.scatter for s in parts], axis=0, dtype=np.float64) / counts.sum() + 1e-9 * np.eye(d),
        between=_shrunk(vectors @ np.diag(np.maximum(values, floor)) @ vectors.T),
        own=own,
        trust=TRUST,
        change=CHANGE,
        temperature=1.0,
        aroused=np.array([label in AROUSED for label in corpus.labels]),
        prior=np.full(k, 1 / k),
        labels=corpus.labels,
    )


def _sums(x: np.ndarray, y: Ints, k: int) -> Sums:
    counts, means = np.zeros(k), np.zeros((k, x.shape[1]))
    scatter = np.zeros((x.shape[1],) * 2, np.float32)
    for label in np.unique(y):
        these = x[y == label].astype(np.float64)
        counts[label], means[label] = len(these), these.mean(axis=0)
        away = (these - means[label]).astype(np.float32)
        scatter += away.T @ away
    return Sums(counts, means, scatter)


def _shrunk(covariance: F64) -> F64:
    return (1 - SPREAD_SHRINK) * covariance + SPREAD_SHRINK * np.diag(np.diag(covariance))


def _contrasts(k: int) -> F64:
    """(K, K - 1), orthonormal, each column of sum 0: what tells K numbers apart but for a constant."""
    return np.asarray(np.linalg.svd(np.eye(k) - 1 / k)[0][:, : k - 1], np.float64)
