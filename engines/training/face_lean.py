"""What a face head that leans more towards the rare, or less, would name: a curve of accuracy against mean recall.

A head leans by adding log(1 + lean / share) to a label's logit, so that another lean is a shift of its posterior, and
nothing need be trained again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from agent.types import F64

LEANS = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.5, 1.0, 2.0, 4.0)


@dataclass(frozen=True, slots=True, eq=False)
class Leaning:
    """Of N faces, by what heads their posteriors were given."""

    lean: float
    """By how much those lean."""
    shares: F64
    """(N, K) of the labels in the data of each one's head, not below the share from which on a label gains no more."""
    temperatures: F64
    """(N,)."""

    def shifted(self, probs: F64, lean: float) -> F64:
        """The posteriors (N, K) of the same heads, did they lean by `lean`."""
        further = np.log1p(lean / self.shares) - np.log1p(self.lean / self.shares)
        odds = np.log(probs) + further / self.temperatures[:, np.newaxis]
        odds = np.exp(odds - odds.max(axis=1, keepdims=True))
        return np.asarray(odds / odds.sum(axis=1, keepdims=True))
