"""Dempster-Shafer fusion of discounted posteriors."""

from __future__ import annotations

from typing import ClassVar, Self

import numpy as np

from agent.fusion.base import Floats, Heard, Rule, Settings, refuse_above_one

ROUNDING = 1e-12
"""By so much K may come out differently for another order of the modalities; it must not change the rule."""


class Dempster(Rule):
    """Dempster's rule over discounted posteriors, Yager's where they conflict too much, decided by betting.

    A modality of weight w and posterior p believes in single labels and in Θ, "any of them": m(c) = w p(c),
    m(Θ) = 1 - w (Shafer's discounting). All M beliefs are combined at once, so that their order does not matter, and K
    is the mass that the conjunction leaves on the empty set (`conjunction`). Up to ``yager_above`` the rest is divided
    by 1 - K (Dempster 1967); above, K goes to Θ (Yager 1987), because what is left is then a remnant that neither side
    meant. Mass on Θ is bet by the agent's prior: P(c) = m(c) + m(Θ) π(c) (Smets's pignistic probability, with π in
    the place of equal shares).

    K is not what `Combined.conflict` says. Posteriors that agree but are unsure have mass on different labels too:
    three equal ones with 0.6 on their label have a K of about 0.8 over seven labels. So K decides between
    Dempster and Yager, and the published conflict is the same divergence as with every other rule.

    The training priors are not looked at; see `agent.fusion.rebased`. A contribution is how far a modality's
    plausibility 1 - w + w p(c) moves one label against another, as a logarithm: 0 for a posterior that is flat.
    """

    name: ClassVar[str] = "dempster"

    def __init__(self, yager_above: float = 0.7) -> None:
        """``yager_above`` in 0..1: the K above which it goes to Θ; 1 is never."""
        if not 0 <= yager_above <= 1:
            raise ValueError(f"fusion: yager_above must be from 0 to 1; found {yager_above}")
        self._yager_above = yager_above

    @classmethod
    def of(cls, settings: Settings) -> Self:
        return cls(yager_above=settings.yager_above)

    def fuse(self, heard: Heard) -> tuple[Floats, Floats]:
        refuse_above_one(self.name, heard.weights)
        masses, ignorance = conjunction(heard.probs, heard.weights)
        left = float(masses.sum() + ignorance)
        empty = 1 - left
        if empty > self._yager_above + ROUNDING or left == 0:
            ignorance += empty
        strengths = np.ptp(np.log(_plausibility(heard.probs, heard.weights)), axis=1)
        return masses + ignorance * heard.prior, strengths


def conjunction(probs: Floats, weights: Floats) -> tuple[Floats, float]:
    """The conjunction of M beliefs without normalising: the masses on the labels (K,) and the mass on Θ.

    ``probs`` (M, K), ``weights`` (M,) in 0..1. An intersection of labels and Θs is a label where one of them is not
    Θ and all others are that label or Θ: m(c) = Π (w_m p_m(c) + 1 - w_m) - Π (1 - w_m), m(Θ) = Π (1 - w_m). What is
    missing to 1 is K, the mass of empty intersections.
    """
    ignorance = 1 - weights  # (M,)
    masses = np.prod(_plausibility(probs, weights), axis=0) - np.prod(ignorance)
    return np.maximum(masses, 0), float(np.prod(ignorance))


def _plausibility(probs: Floats, weights: Floats) -> Floats:
    return weights[:, None] * probs + (1 - weights)[:, None]  # (M, K)
