"""How far posteriors disagree."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def conflict(probs: npt.NDArray[np.float64], weights: npt.NDArray[np.float64]) -> float:
    """How far the posteriors (M, K) disagree under the weights (M,), 0..1.

    The generalised Jensen-Shannon divergence (Lin 1991) of the posteriors under the normalised weights, over the log of
    how many modalities that is in effect: e to the entropy of the normalised weights, at least two. So it is 0 for
    equal posteriors, 1 for posteriors without overlap that weigh the same, what hardly weighs hardly conflicts, and
    a weight that fades to 0 changes nothing abruptly.
    """
    if not weights.any():
        return 0.0
    shares = weights / weights.max()  # first: a weight may be so small that its share of the sum is 0
    shares = shares / shares.sum()
    shares, probs = shares[shares > 0], probs[shares > 0]
    if len(shares) < 2:
        return 0.0
    divergence = _entropy(shares @ probs) - float(shares @ np.array([_entropy(row) for row in probs]))
    return float(np.clip(divergence / max(np.log(2), _entropy(shares)), 0.0, 1.0))


def _entropy(p: npt.NDArray[np.float64]) -> float:
    p = p[p > 0]
    return float(-(p * np.log(p)).sum())
