"""Fusion by a small trained head. It is trained elsewhere (`engines.training`); here it is only checked and applied."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from agent.fusion.arrays import Arrays, HeadError, numbers, refuse_misfits, refuse_missing, texts
from agent.fusion.base import Combined, Embeddings, Floats, Heard, Rule, refuse_above_one, softmax, subset_of
from agent.fusion.conflict import conflict

BOUND = 100.0
"""No parameter of a head is beyond this: `mix`, `bias` and `gamma` stay finite in all that follows …"""
LOG_BOUND = 5.0
"""… and neither `log_temperature` nor what `quarrel` adds to it moves a temperature by more than e^5."""


@dataclass(frozen=True, slots=True, eq=False)
class LearnedHead:
    """The parameters of `Learned`; raises `HeadError` where they do not fit together. M modalities, K labels."""

    modalities: tuple[str, ...]
    """M names, in the order of the rows that it is given."""
    labels: tuple[str, ...]
    """K names, in the order of the columns."""
    mix: Floats
    """(M, K, K): how a modality's log ratio for one label (column) bears on another (row); the identity is Bayes."""
    bias: Floats
    """(M, K): what is added when the modality is there: its habit of favouring a label."""
    gamma: Floats
    """(M,), above 0: exponent of the weight; 1 takes the weight as it is, towards 0 whatever is there counts fully."""
    log_temperature: Floats
    """(2^M - 1,): log of the temperature by which are there, see `subset_of`; 0 leaves the logits as they are."""
    quarrel: Floats
    """(M, M), symmetric: what the conflict of a pair (0..1) adds to the log temperature; the diagonal is 0."""

    def __post_init__(self) -> None:
        m, k = len(self.modalities), len(self.labels)
        wanted = {"mix": (m, k, k), "bias": (m, k), "gamma": (m,), "quarrel": (m, m)}
        wanted["log_temperature"] = (2**m - 1,)
        refuse_misfits(self, wanted, f"{m} modalities and {k} labels")
        for name in wanted:
            bound = LOG_BOUND if name in ("log_temperature", "quarrel") else BOUND
            if (np.abs(getattr(self, name)) > bound).any():
                raise HeadError(f"{name} must be within ±{bound:g}")
        if not (self.gamma > 0).all():
            raise HeadError(f"gamma must be above 0; found {self.gamma.tolist()}")
        if (self.quarrel != self.quarrel.T).any() or self.quarrel.diagonal().any():
            raise HeadError("quarrel must be symmetric, with a diagonal of 0")
        for name, names in (("modalities", self.modalities), ("labels", self.labels)):
            if len(set(names)) != len(names):
                raise HeadError(f"{name} must be different names; found {list(names)}")

    @classmethod
    def bayes(cls, modalities: Sequence[str], labels: Sequence[str]) -> LearnedHead:
        """The head that does what `agent.fusion.Bayes` does: where training starts, and what it is drawn to."""
        m, k = len(modalities), len(labels)
        return cls(
            tuple(modalities),
            tuple(labels),
            mix=np.tile(np.eye(k), (m, 1, 1)),
            bias=np.zeros((m, k)),
            gamma=np.ones(m),
            log_temperature=np.zeros(2**m - 1),
            quarrel=np.zeros((m, m)),
        )

    @classmethod
    def of(cls, arrays: Arrays) -> LearnedHead:
        """From arrays by the names of the fields, as `arrays` gives them and an .npz holds them."""
        refuse_missing(arrays, cls.__slots__)
        modalities, labels, *rest = cls.__slots__
        return cls(texts(arrays[modalities]), texts(arrays[labels]), **numbers(arrays, rest, np.float64))

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """What `of` takes; none holds objects, so that it can be written to an .npz and read without pickle."""
        return {name: np.asarray(getattr(self, name)) for name in self.__slots__}


class Learned(Rule):
    """`Bayes` with trained parameters: log P = log π + (Σ w_m^γ_m (A_m d_m + b_m)) / T - log Z.

    d_m = log p_m - log π_m less its mean over the labels, A_m is ``mix``, b_m ``bias``, and
    log T = ``log_temperature`` of those that are there + Σ over pairs ``quarrel`` * their conflict. A
    modality that is not there adds nothing, so that every subset has an answer, and none at all gives π.

    The parameters belong to named modalities: the rows of `combine` are all of ``head.modalities`` in that order, with
    weight 0 for one that is missing.
    """

    name: ClassVar[str] = "learned"

    def __init__(self, head: LearnedHead) -> None:
        self._head = head

    def combine(
        self, probs: Floats, weights: Floats, priors: Floats, prior: Floats, embeddings: Embeddings = ()
    ) -> Combined:
        rows, labels = len(self._head.modalities), len(self._head.labels)
        if (np.size(weights), np.size(prior)) != (rows, labels):
            raise ValueError(
                f"fusion: learned takes a row for each of {', '.join(self._head.modalities)} and a column for each of"
                f" {', '.join(self._head.labels)}; found {np.size(weights)} weights and {np.size(prior)} labels"
            )
        return super().combine(probs, weights, priors, prior, embeddings)

    def fuse(self, heard: Heard) -> tuple[Floats, Floats]:
        refuse_above_one(self.name, heard.weights)
        head, rows = self._head, heard.rows
        ratios = np.log(heard.probs) - np.log(heard.priors)  # (M, K)
        ratios -= ratios.mean(axis=1, keepdims=True)
        said = np.einsum("mij,mj->mi", head.mix[rows], ratios) + head.bias[rows]
        pulls = (heard.weights ** head.gamma[rows])[:, None] * said / self._temperature(heard)
        return softmax(np.log(heard.prior) + pulls.sum(axis=0)), np.ptp(pulls, axis=1)

    def _temperature(self, heard: Heard) -> float:
        there = np.isin(np.arange(heard.count), heard.rows)
        log_temperature = float(self._head.log_temperature[subset_of(there)])
        for i, row in enumerate(heard.rows):
            for j, other in enumerate(heard.rows[:i]):
                if quarrel := float(self._head.quarrel[row, other]):
                    pair = [i, j]
                    log_temperature += quarrel * conflict(heard.probs[pair], heard.weights[pair])
        return float(np.exp(log_temperature))
