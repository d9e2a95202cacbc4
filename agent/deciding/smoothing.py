"""Smoothing over time: a forward filter with sticky transitions.

The hidden state is the label; it stays with probability exp(-Δt / dwell), else it is drawn anew from the prior
(Rabiner 1989, forward algorithm). Windows overlap, so their posteriors are not independent evidence: each counts with
the exponent `trust`.
"""

from __future__ import annotations

import math

import numpy as np

from agent.fusion import TINY, Floats


class StickyFilter:
    """Carries the belief about the label from window to window."""

    def __init__(self, prior: Floats, *, dwell_ns: int, trust: float) -> None:
        """`prior` (K,); `dwell_ns`: how long a label lasts on average; `trust` in 0..1, 1 for windows apart."""
        self._prior = np.maximum(prior, TINY)
        self._dwell_ns = dwell_ns
        self._trust = trust
        self._belief = self._prior
        self._at_ns: int | None = None

    def succeed(self, former: StickyFilter) -> None:
        """Go on from the belief of another filter over the same labels."""
        self._belief, self._at_ns = former._belief, former._at_ns

    def update(self, probs: Floats, at_ns: int) -> Floats:
        """The belief (K,) at ``at_ns``, given the fused posterior (K,) of the window that ends there.

        A window without evidence has the prior for its posterior, and lets the belief fade towards it.
        """
        self._belief, self._at_ns = self.after(probs, at_ns), at_ns
        return self._belief

    def after(self, probs: Floats, at_ns: int) -> Floats:
        """What `update` would make of it, without taking it in."""
        likelihood = np.maximum(probs, TINY) / self._prior
        if self._at_ns is None:
            belief = self._prior * likelihood
        else:
            stay = math.exp(-max(0, at_ns - self._at_ns) / self._dwell_ns) if self._dwell_ns else 0.0
            belief = (stay * self._belief + (1 - stay) * self._prior) * likelihood**self._trust
        return np.asarray(belief / belief.sum())
