"""Calibration after fusion: calibrated members do not make a calibrated whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from agent.fusion.base import TINY, Floats, softmax, subset_of


class Recalibration:
    """Tempers what the fused posterior adds to the prior: log P' = log π + (log P - log π) / T - log Z.

    The prior itself is not tempered, so that "nothing known" stays the prior at every temperature (with a uniform prior
    it is the temperature scaling of Guo et al. 2017). Modalities share causes, so that fusing more of them overstates
    more, and what is too sure with faces is not sure enough with voices: T may differ by how many were there, or by
    which.
    """

    BOUNDS: ClassVar[tuple[float, float]] = (0.05, 20.0)
    """Of a temperature: beyond them the answer is a certainty or the prior."""

    def __init__(self, temperatures: Sequence[float] = (1.0,)) -> None:
        """T with one modality, with two, …, of which the last holds for more; or one for each subset of the modalities.

        Of M modalities these are 2^M - 1, in the order of `subset_of`. Each is within `BOUNDS`; 1 changes nothing.
        """
        least, most = self.BOUNDS
        if not temperatures or not all(least <= t <= most for t in temperatures):
            raise ValueError(f"fusion: temperatures must be from {least:g} to {most:g}; found {list(temperatures)}")
        self._temperatures = tuple(temperatures)

    def apply(self, probs: Floats, prior: Floats, there: npt.NDArray[np.bool_]) -> Floats:
        """The posterior (K,) of the modalities ``there`` (M,), recalibrated; ``prior`` (K,) is the agent's."""
        known = self._temperatures
        if len(there) > 1 and len(known) == 2 ** len(there) - 1:
            temperature = known[max(subset_of(there), 0)]
        else:
            temperature = known[min(max(int(np.count_nonzero(there)), 1), len(known)) - 1]
        if temperature == 1:
            return probs
        log_prior = np.log(np.maximum(prior, TINY))
        return softmax(log_prior + (np.log(np.maximum(probs, TINY)) - log_prior) / temperature)


def fit_temperature(probs: Floats, labels: npt.NDArray[np.integer], prior: Floats) -> float:
    """The T of `Recalibration` with the least mean negative log-likelihood, within its bounds.

    ``probs`` (N, K) are fused posteriors on items that nothing was trained on, ``labels`` (N,) the right columns,
    ``prior`` (K,) the agent's. The NLL is convex in 1/T, so that its slope is bisected. Raises `ValueError` where
    there is no item or the shapes do not fit.
    """
    if not len(labels) or probs.shape != (len(labels), len(prior)):
        raise ValueError(f"fit_temperature: probs {probs.shape}, labels {labels.shape}, prior {prior.shape} do not fit")
    log_prior = np.log(np.maximum(prior, TINY))
    ratios = np.log(np.maximum(probs, TINY)) - log_prior  # (N, K)
    right = np.take_along_axis(ratios, labels[:, None], axis=1).mean()

    def slope(inverse: float) -> float:
        logits = log_prior + inverse * ratios
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        odds /= odds.sum(axis=1, keepdims=True)
        return float((odds * ratios).sum(axis=1).mean() - right)

    high, low = (1 / bound for bound in Recalibration.BOUNDS)
    for _ in range(60):
        middle = (low * high) ** 0.5
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return float(1 / (low * high) ** 0.5)
