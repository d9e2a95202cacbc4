"""Fusion by a fuzzy integral: the modalities as a coalition whose members may be redundant or need one another."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import numpy.typing as npt

from agent.fusion.base import Floats, Heard, Rule, refuse_above_one


class Fuzzy(Rule):
    """Choquet integral of the posteriors over a Sugeno λ-measure whose densities are the weights.

    For each label, with the posteriors h sorted downwards and A_i the i modalities that say most:
    C = Σ (h_i - h_{i+1}) g(A_i), h_{M+1} = 0 (Murofushi and Sugeno 1989; as classifier fusion: Cho and Kim 1995). The
    measure is g(A ∪ B) = g(A) + g(B) + λ g(A) g(B) with g of all modalities 1 (Sugeno 1974). Densities that sum to 1
    give the weighted mean. Above, the modalities are taken as redundant, and the result leans to the maximum; below,
    as needing one another, and it leans to the minimum, so that weights which all sink make it more cautious.
    One modality alone is all modalities, whatever its weight. The values of the labels are normalised to sum to 1.

    The measure is not continuous where a density goes to 0: with that of the whole fixed at 1, a partner that hardly
    weighs still holds a veto, which it loses only with its last trace of weight.

    The training priors are not looked at; see `agent.fusion.rebased`. A contribution is what a modality adds to the
    integral, over all labels: h (g with it - g without it), shared by density among those who say the same.
    """

    name: ClassVar[str] = "fuzzy"

    def fuse(self, heard: Heard) -> tuple[Floats, Floats]:
        refuse_above_one(self.name, heard.weights)
        probs, densities = heard.probs, heard.weights
        more = (probs[None] > probs[:, None]).sum(axis=1)  # (M, K), how many say more of a label
        ties = probs[None] == probs[:, None]  # (M, M, K)
        measures = _measures(densities, np.argsort(-probs, axis=0))  # (M + 1, K)
        upto = np.take_along_axis(measures, more + ties.sum(axis=1), axis=0)
        steps = upto - np.take_along_axis(measures, more, axis=0)  # (M, K), g(A_i) - g(A_{i-1})
        part = densities[:, None] / np.einsum("n,mnk->mk", densities, ties)  # of a step that several make together
        added = probs * steps * part  # (M, K)
        return added.sum(axis=0), added.sum(axis=1)


def log1p_lambda(densities: Floats) -> float:
    """log(1 + λ) of the Sugeno measure with these densities (M,), each above 0 and up to 1; -inf where λ is -1.

    The root other than 0 of Π (1 + λ g_i) = 1 + λ: there is one above -1, unless the densities sum to 1, where λ is 0.
    In t = log(1 + λ) the equation is f(t) = Σ log(1 - g_i + g_i e^t) - t = 0. f is convex and 0 at 0, so that Newton's
    steps from beyond the other root come down to it and never pass it; and no density is so small that λ overflows.
    """
    if densities.size < 2 or abs(densities.sum() - 1) < 1e-12:
        return 0.0
    if densities.max() == 1:
        return -np.inf
    log_not, log_g = np.log1p(-densities), np.log(densities)
    t = float(log_not.sum()) if densities.sum() > 1 else -float(log_g.sum()) / (densities.size - 1)
    for _ in range(100):
        terms = _log_terms(t, densities)
        slope = float(np.exp(t + log_g - terms).sum()) - 1
        step = float(terms.sum() - t) / slope
        t -= step
        if abs(step) <= 1e-14 * abs(t):
            break
    return t


def _log_terms(t: float, densities: Floats) -> Floats:
    """log(1 + λ g) for each g, exact for λ next to 0 and for λ beyond all bounds."""
    if abs(t) < 1:
        return np.asarray(np.log1p(np.expm1(t) * densities))
    return np.asarray(np.logaddexp(np.log1p(-densities), t + np.log(densities)))


def _measures(densities: Floats, order: npt.NDArray[np.intp]) -> Floats:
    """The measure of the first 0, 1, … M modalities of each column of ``order`` (M, K): from 0 to 1, (M + 1, K)."""
    t = log1p_lambda(densities)
    if t == 0:
        partial: Floats = np.cumsum(densities[order], axis=0)
    elif t == -np.inf:
        partial = np.subtract(1, np.cumprod(1 - densities[order], axis=0), dtype=np.float64)
    else:  # (e^s - 1) / (e^t - 1) with s = Σ log(1 + λ g), written so that nothing overflows
        s: Floats = np.cumsum(_log_terms(t, densities)[order], axis=0)
        ratio = np.expm1(s) / np.expm1(t) if t < 0 else np.exp(s - t) * np.expm1(-s) / np.expm1(-t)
        partial = np.asarray(ratio, np.float64)
    ends = np.zeros((1, order.shape[1]))
    return np.concatenate([ends, np.minimum(partial[:-1], 1), ends + 1])
