"""The rules that are a line of arithmetic, and the list of all of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Self

import numpy as np

from agent.fusion.base import Floats, Heard, Rule, Settings, normalised, rebased, softmax
from agent.fusion.dempster import Dempster
from agent.fusion.fuzzy import Fuzzy


class Bayes(Rule):
    """Log-linear pool with prior correction: log P = log π + Σ w_m (log p_m - log π_m) - log Z.

    With all weights 1 it is naive Bayes, right when the modalities are independent given the label (Kittler et al.
    1998; Chen et al. 2022, ProbEn).

    Where the modalities conflict, at least one posterior is wrong, and a product follows the most extreme one. With
    ``handover`` below 1 the answer goes over to the weighted mean (of the posteriors under the agent's prior) there:
    none of it up to that conflict, all of it from `RAMP` above, linearly between, so that a small change of the
    input never makes a big one of the answer.
    """

    name: ClassVar[str] = "bayes"
    RAMP: ClassVar[float] = 0.1

    def __init__(self, handover: float = 1.0) -> None:
        """``handover`` in 0..1: the conflict above which the mean takes over; 1 is never."""
        if not 0 <= handover <= 1:
            raise ValueError(f"fusion: handover must be from 0 to 1; found {handover}")
        self._handover = handover

    @classmethod
    def of(cls, settings: Settings) -> Self:
        return cls(handover=settings.handover)

    def fuse(self, heard: Heard) -> tuple[Floats, Floats]:
        pulls = heard.weights[:, None] * (np.log(heard.probs) - np.log(heard.priors))  # (M, K)
        fused, strengths = softmax(np.log(heard.prior) + pulls.sum(axis=0)), np.ptp(pulls, axis=1)
        over = min(1.0, (heard.conflict() - self._handover) / self.RAMP) if self._handover < 1 else 0.0
        if over <= 0:
            return fused, strengths
        shares = normalised(heard.weights)
        mean = shares @ rebased(heard.probs, heard.priors, heard.prior)
        return (1 - over) * fused + over * mean, (1 - over) * normalised(strengths) + over * shares


class Mean(Rule):
    """Weighted mean of the posteriors: the sum rule, the most robust to posteriors that are wrong (Kittler 1998)."""

    name: ClassVar[str] = "mean"

    def fuse(self, heard: Heard) -> tuple[Floats, Floats]:
        shares = normalised(heard.weights / heard.weights.max())
        return shares @ heard.probs, shares


class Max(Rule):
    """The most confident modality decides each label: P ∝ max_m w_m p_m (Kittler's max rule, weighted)."""

    name: ClassVar[str] = "max"

    def fuse(self, heard: Heard) -> tuple[Floats, Floats]:
        weighted = (heard.weights / heard.weights.max())[:, None] * heard.probs  # (M, K)
        fused = weighted.max(axis=0)
        won = weighted >= fused  # (M, K), those that tie share the label
        return fused, (won / won.sum(axis=0)) @ fused


class Vote(Rule):
    """Weighted majority: each modality votes for its most probable label; labels that tie in it share its vote."""

    name: ClassVar[str] = "vote"

    def fuse(self, heard: Heard) -> tuple[Floats, Floats]:
        top = (heard.probs >= heard.probs.max(axis=1, keepdims=True)).astype(np.float64)  # (M, K)
        shares = normalised(heard.weights / heard.weights.max())
        return shares @ (top / top.sum(axis=1, keepdims=True)), shares


RULES: Mapping[str, type[Rule]] = {rule.name: rule for rule in (Bayes, Mean, Max, Vote, Dempster, Fuzzy)}
"""The rules by the name that the config calls them."""
