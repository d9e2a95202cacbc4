"""Fusion of what the encoders' networks made of their input, before they named a label, by a small trained head.

For comparison with the rules that fuse decisions alone. It is trained elsewhere (`engines.training`); here it is only
checked and applied.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from agent.fusion.arrays import Arrays, HeadError, numbers, refuse_misfits, refuse_missing, texts
from agent.fusion.base import Combined, Embeddings, Floats, Heard, Rule, refuse_above_one, softmax, subset_of
from agent.types import F32

REACH = 4.0
"""Coordinates are clipped to ± this many deviations: what is farther out than training ever was says no more."""
LOG_BOUND = 5.0
"""Of log temperatures."""


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddedHead:
    """The parameters of `Feature` and `Hybrid`; raises `HeadError` where they do not fit together.

    M modalities, K labels, embeddings of D_1 … D_M numbers one behind the other, d coordinates each, H hidden units.
    """

    modalities: tuple[str, ...]
    """M names, in the order of the rows that it is given."""
    labels: tuple[str, ...]
    """K names, in the order of the columns."""
    sizes: tuple[int, ...]
    """D_1 … D_M."""
    mean: F32
    """(ΣD,), of the training embeddings."""
    projection: F32
    """(ΣD, d), to coordinates of deviation 1."""
    hidden: F32
    """(H, M d + M), of w_m x_m for each modality, then of w_m."""
    offset: F32
    """(H,)."""
    out: F32
    """(K, H)."""
    decisions: F32
    """(M, K): how far a modality's own log ratios count; 0 for `Feature`."""
    log_temperature: F32
    """(2^M - 1,), by which modalities are there: see `subset_of`."""

    def __post_init__(self) -> None:
        m, k, total = len(self.modalities), len(self.labels), sum(self.sizes)
        d, h = (array.shape[-1] if array.ndim else 0 for array in (self.projection, self.offset))
        wanted = {
            "mean": (total,),
            "projection": (total, d),
            "hidden": (h, m * d + m),
            "offset": (h,),
            "out": (k, h),
            "decisions": (m, k),
            "log_temperature": (2**m - 1,),
        }
        refuse_misfits(self, wanted, f"{m} modalities, {k} labels and embeddings of {self.sizes}")
        if len(self.sizes) != m or (np.abs(self.log_temperature) > LOG_BOUND).any():
            raise HeadError(f"wants {m} sizes, and log temperatures within ±{LOG_BOUND:g}")

    @classmethod
    def of(cls, arrays: Arrays) -> EmbeddedHead:
        """From arrays by the names of the fields, as `arrays` gives them and an .npz holds them."""
        refuse_missing(arrays, cls.__slots__)
        modalities, labels, sizes, *rest = cls.__slots__
        lengths = tuple(int(size) for size in np.atleast_1d(arrays[sizes]))
        return cls(texts(arrays[modalities]), texts(arrays[labels]), lengths, **numbers(arrays, rest, np.float32))

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """What `of` takes; none holds objects, so that it can be written to an .npz and read without pickle."""
        return {name: np.asarray(getattr(self, name)) for name in self.__slots__}

    def coordinates(self, modality: int, embeddings: F32) -> Floats:
        """(N, d) of N embeddings (N, D) of one modality; raises `ValueError` for embeddings of another length."""
        if embeddings.shape[-1] != self.sizes[modality]:
            raise ValueError(
                f"fusion: the trained head takes {self.modalities[modality]} embeddings of {self.sizes[modality]}"
                f" numbers; found {embeddings.shape[-1]}: it was trained for another encoder"
            )
        start = sum(self.sizes[:modality])
        own = slice(start, start + self.sizes[modality])
        placed = (embeddings.astype(np.float64) - self.mean[own]) @ self.projection[own]
        return np.asarray(np.clip(placed, -REACH, REACH), np.float64)


class Hybrid(Rule):
    """Embeddings and decisions together: log P = log π + (W tanh(V [w_m x_m; w_m] + v) + Σ w_m a_m d_m) / T - log Z.

    x_m are an embedding's coordinates (``projection``), d_m = log p_m - log π_m less its mean over the labels, a_m is
    ``decisions``, V and v are ``hidden`` and ``offset``, W is ``out``, T goes by which modalities are there. A modality
    that is not there adds nothing; of one without an embedding the decision counts alone.
    """

    name: ClassVar[str] = "hybrid"

    def __init__(self, head: EmbeddedHead) -> None:
        self._head = head

    def combine(
        self, probs: Floats, weights: Floats, priors: Floats, prior: Floats, embeddings: Embeddings = ()
    ) -> Combined:
        head = self._head
        if (np.size(weights), np.size(prior)) != (len(head.modalities), len(head.labels)):
            raise ValueError(
                f"fusion: {self.name} takes a row for each of {', '.join(head.modalities)} and a column for each of"
                f" {', '.join(head.labels)}; found {np.size(weights)} weights and {np.size(prior)} labels"
            )
        return super().combine(probs, weights, priors, prior, embeddings)

    def fuse(self, heard: Heard) -> tuple[Floats, Floats]:
        refuse_above_one(self.name, heard.weights)
        log_prior = np.log(heard.prior)
        whole = self._logits(heard, np.ones(len(heard.rows), bool))
        apart = [self._logits(heard, np.arange(len(heard.rows)) != i) for i in range(len(heard.rows))]
        return softmax(log_prior + whole), np.array([np.ptp(whole - without) for without in apart])

    def _logits(self, heard: Heard, kept: npt.NDArray[np.bool_]) -> Floats:
        """(K,) that is added to the log prior by those of the modalities heard that are kept."""
        head, count = self._head, len(self._head.modalities)
        if not kept.any():
            return np.zeros(len(head.labels))
        d = head.projection.shape[1]
        inputs = np.zeros(count * d + count)
        ratios = np.log(heard.probs) - np.log(heard.priors)  # (M, K)
        ratios -= ratios.mean(axis=1, keepdims=True)
        said = np.zeros(len(head.labels))
        for i in np.flatnonzero(kept).tolist():
            row, weight = int(heard.rows[i]), heard.weights[i]
            said += weight * head.decisions[row] * ratios[i]
            embedding = heard.embeddings[i]
            if embedding is not None:
                inputs[row * d : (row + 1) * d] = weight * head.coordinates(row, embedding[np.newaxis])[0]
                inputs[count * d + row] = weight
        if inputs.any():
            said += head.out @ np.tanh(head.hidden @ inputs + head.offset)
        there = np.isin(np.arange(count), heard.rows[kept])
        return np.asarray(said / np.exp(head.log_temperature[subset_of(there)]))


class Feature(Hybrid):
    """Embeddings alone: `Hybrid` with a head whose ``decisions`` are 0. Who has no embedding is not there."""

    name: ClassVar[str] = "feature"

    def combine(
        self, probs: Floats, weights: Floats, priors: Floats, prior: Floats, embeddings: Embeddings = ()
    ) -> Combined:
        """As `Rule.combine`."""
        there = np.array([i < len(embeddings) and embeddings[i] is not None for i in range(np.size(weights))], bool)
        return super().combine(probs, np.asarray(weights, np.float64) * there, priors, prior, embeddings)


EMBEDDED: Mapping[str, type[Hybrid]] = {rule.name: rule for rule in (Feature, Hybrid)}
"""The rules that take embeddings, by the name that the config calls them."""
