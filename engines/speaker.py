"""Reading a voice against the voice that one knows: a label posterior that follows the speaker as he goes on.

Features are brought down to a few coordinates z in which labels differ, whoever speaks. There, what speaker s says with
label k lies around ``m_k + b_s + c_sk``: a mean of the label, how this voice differs at large, and how it differs with
this label (a two-covariance model as in Brümmer & de Villiers 2010, "The speaker partitioning problem", with a second
speaker term). The last two are unknown Gaussians, `between` and `own`; what was heard in the past narrows them down,
by Bayes' rule, without anybody saying which label it had: each label is weighed with its own posterior, and the mixture
that results is taken for the Gaussian of the same mean and covariance (assumed density filtering, Minka 2001).

Nothing of the future is needed. Many utterances of one label tell about that label of this voice, and about the voice
at large only as much as one label can: `own` bounds it. Labels are taken to come as `prior` says, in any order; where a
session has one alone, it is in the end read worse than a stranger's would be (`engines/models.toml` has the figures).
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from agent.fusion.arrays import Arrays, HeadError, numbers, refuse_misfits, refuse_missing, texts
from agent.npz import read_head
from agent.types import F64

FADE_S = 600.0
"""Silence in which what is known of a voice falls to 1 / e: who speaks after a long one may be somebody else."""


@dataclass(frozen=True, slots=True, eq=False)
class Voice:
    """What is known of one voice: how it differs, with each label, from what is usual."""

    mean: F64
    """(K * d,)."""
    covariance: F64
    """(K * d, K * d)."""


@dataclass(frozen=True, slots=True, eq=False)
class SpeakerHead:
    """Features and what is known of the voice -> posterior, and what is known then. Deterministic."""

    mean: F64
    """(D,), of the training features."""
    weight: F64
    """(D, d), to the coordinates z."""
    centres: F64
    """(K, d), the usual z of each label."""
    within: F64
    """(d, d), covariance of what one speaker says with one label."""
    between: F64
    """(d, d), covariance of how speakers differ at large."""
    own: F64
    """(d, d), covariance of how, beyond that, they differ with each label."""
    trust: float
    """Above 0, at most 1: an utterance counts as this part of one, because no model is quite true."""
    change: float
    """Probability that somebody else speaks than at the utterance before."""
    temperature: float
    """Above 0; divides the log posterior."""
    aroused: npt.NDArray[np.bool_]
    """(K,): the labels of high arousal."""
    prior: F64
    """(K,), class prior under which the posterior holds; sums to 1."""
    labels: tuple[str, ...]
    """K names."""

    def __post_init__(self) -> None:
        (dim, d), k = self.weight.shape, len(self.labels)
        square = (d, d)
        wanted = {"mean": (dim,), "centres": (k, d), "within": square, "between": square, "own": square}
        refuse_misfits(self, {**wanted, "aroused": (k,), "prior": (k,)}, f"{k} labels in {d}")
        if not (0 < self.trust <= 1 and 0 < self.change < 1 and self.temperature > 0):
            raise HeadError("wants trust in 0..1, change in 0..1 and a temperature above 0")

    @classmethod
    def load(cls, path: Path) -> SpeakerHead:
        """Read what `save` wrote. Raises `HeadError`, also where the file holds anything but plain arrays."""
        return read_head(path, cls._of, "a head as `python -m engines.training voice` writes it")

    @classmethod
    def _of(cls, arrays: Arrays) -> SpeakerHead:
        names = [field.name for field in fields(cls)]
        refuse_missing(arrays, names)
        found = numbers(arrays, [name for name in names if name not in ("aroused", "labels")], np.float64)
        found |= {name: float(found[name]) for name in ("trust", "change", "temperature")}
        return cls(**found, aroused=arrays["aroused"].astype(bool), labels=texts(arrays["labels"]))

    def save(self, path: Path) -> None:
        """Write an .npz that `load` reads; the same head gives the same bytes."""
        arrays: dict[str, Any] = {field.name: np.asarray(getattr(self, field.name)) for field in fields(self)}
        np.savez(path, allow_pickle=False, **arrays)

    def stranger(self) -> Voice:
        """A voice of which nothing is known."""
        k = len(self.labels)
        spread = np.kron(np.ones((k, k)), self.between) + np.kron(np.eye(k), self.own)
        return Voice(np.zeros(len(spread)), spread)

    def place(self, x: npt.NDArray[Any]) -> F64:
        """(N, D) features to (N, d) coordinates. Raises `HeadError` for features of another length."""
        if x.ndim != 2 or x.shape[1] != len(self.mean):
            raise HeadError(f"speaker head: takes features of shape (N, {len(self.mean)}), was given {x.shape}")
        return np.asarray((x.astype(np.float64) - self.mean) @ self.weight, np.float64)

    def posterior(self, z: F64, voice: Voice) -> F64:
        """(K,) probabilities of the labels of z (d,), said by this voice or, at times, by a new one."""
        return _normalised(self._scores(z, voice)[0] / self.temperature)

    def learn(self, z: F64, voice: Voice, *, share: float = 1.0) -> Voice:
        """What is known of the voice once it has said z (d,), which counts as so much of an utterance, 0..1."""
        scores, new = self._scores(z, voice)
        labels = _normalised(scores)
        voice = _mixed(voice, self.stranger(), new)
        k, d = self.centres.shape
        rows = voice.covariance.reshape(k, d, k * d)
        noise = self.within / (self.trust * max(share, 1e-3))
        gains = np.transpose(np.linalg.solve(self._blocks(voice) + noise, rows), (0, 2, 1))  # (K, K d, d)
        surprise = z - self.centres - voice.mean.reshape(k, d)
        moves = np.einsum("kid,kd->ki", gains, surprise)  # (K, K d): of the mean, were it this label
        move = labels @ moves
        apart = moves - move
        shrunk = voice.covariance - np.tensordot(labels, gains @ rows, axes=1)
        covariance = shrunk + (labels[:, np.newaxis] * apart).T @ apart
        return Voice(voice.mean + move, (covariance + covariance.T) / 2)

    def faded(self, voice: Voice, seconds: float) -> Voice:
        """What is left of it after that long: an Ornstein-Uhlenbeck process, back to what is usual."""
        left = float(np.exp(-max(0.0, seconds) / FADE_S))
        covariance = left**2 * voice.covariance + (1 - left**2) * self.stranger().covariance
        return Voice(left * voice.mean, covariance)

    def arousal(self, posterior: F64) -> float | None:
        """Probability of a label of high arousal; None where all labels, or none, are such."""
        return float(posterior[self.aroused].sum()) if 0 < self.aroused.sum() < len(self.labels) else None

    def _scores(self, z: F64, voice: Voice) -> tuple[F64, float]:
        """(K,) log posteriors of the labels but for a constant, and the probability that this is a new voice."""
        known = self._densities(z, voice.mean.reshape(self.centres.shape), self._blocks(voice)) + np.log(self.prior)
        fresh = self._densities(z, np.zeros(z.shape), self.between + self.own) + np.log(self.prior)
        both = np.array([np.log1p(-self.change) + known, np.log(self.change) + fresh])  # (2, K)
        totals = np.logaddexp.reduce(both, axis=1)
        return np.logaddexp(both[0], both[1]), float(_normalised(totals)[1])

    def _densities(self, z: F64, shifts: F64, spreads: F64) -> F64:
        """(K,) log densities of z, were labels shifted by `shifts` (K, d), known up to `spreads` ((K,) d, d)."""
        total = spreads + self.within
        away = (z - self.centres - shifts)[..., np.newaxis]  # (K, d, 1)
        squares = (away * np.linalg.solve(total, away)).sum(axis=(1, 2))
        return np.asarray(-0.5 * (squares + np.linalg.slogdet(total)[1]), np.float64)

    def _blocks(self, voice: Voice) -> F64:
        """(K, d, d): covariance of how the voice differs with each label."""
        k, d = self.centres.shape
        each = np.arange(k)
        return np.asarray(voice.covariance.reshape(k, d, k, d)[each, :, each, :], np.float64)


def _mixed(one: Voice, other: Voice, share: float) -> Voice:
    """The Gaussian with mean and covariance of a mixture, `share` of which is the `other`."""
    apart = one.mean - other.mean
    covariance = (1 - share) * one.covariance + share * other.covariance
    return Voice((1 - share) * one.mean + share * other.mean, covariance + share * (1 - share) * np.outer(apart, apart))


def _normalised(logs: F64) -> F64:
    """Of unnormalised log probabilities (N,)."""
    odds = np.exp(logs - logs.max())
    return np.asarray(odds / odds.sum(), np.float64)
