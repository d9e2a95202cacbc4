"""The fusion head: weighs what the modalities say, combines it, recalibrates, smooths, and decides or abstains."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agent.deciding.smoothing import StickyFilter
from agent.fusion import TINY, Combined, EmbeddedHead, Floats, LearnedHead, Recalibration, Rule, leaked, rebased
from agent.npz import read_head
from agent.types import F32, Evidence, Modality

PAD_ANCHORS: Mapping[str, tuple[float, float]] = {
    "neutral": (0.0, 0.0),
    "happy": (0.81, 0.51),
    "sad": (-0.63, -0.27),
    "angry": (-0.51, 0.59),
    "fearful": (-0.64, 0.60),
    "disgusted": (-0.60, 0.35),
    "surprised": (0.40, 0.67),
}
"""Pleasure and arousal of the labels, -1..1 (Russell and Mehrabian 1977, table 1; neutral is the origin)."""
ROWS: Mapping[Modality, int] = {modality: row for row, modality in enumerate(Modality)}
"""Which row of a rule's arguments is whose."""


@dataclass(frozen=True, slots=True)
class Trust:
    """How much a modality is believed before its signal is looked at."""

    reliability: float
    """0..1, its share of right answers on held-out data, each label counted alike, roughly."""
    tau_ns: int
    """How fast its evidence ages: after this time it counts 1/e."""

    def weight(self, evidence: Evidence, end_ns: int) -> float:
        """Trust in ``evidence`` now: reliability * quality * exp(-age / tau), clipped to 0..1."""
        age_ns = max(0, end_ns - evidence.t_ns)
        return min(1.0, max(0.0, self.reliability * evidence.quality * math.exp(-age_ns / self.tau_ns)))


@dataclass(frozen=True, slots=True, eq=False)
class Verdict:
    """What the head makes of one window."""

    label: str | None
    """None when it abstains."""
    confidence: float
    probs: Floats
    """(K,)"""
    conflict: float
    weights: Mapping[Modality, float]
    shares: Mapping[Modality, float]
    dimensions: Mapping[str, float]
    """Valence and arousal in 0..1, derived from ``probs`` by `PAD_ANCHORS`; arousal also from what the voice reads."""


class FusionHead:
    """Keeps the belief about the label from window to window. Call `judge` in the order of the windows.

    The rule is given one row for each `Modality`, in their order, with weight 0 for those without evidence; and every
    posterior as it would be under the agent's prior, so that no rule takes a training set's favourite label for
    evidence.
    """

    def __init__(
        self,
        rule: Rule,
        *,
        labels: Sequence[str],
        prior: Floats,
        trust: Mapping[Modality, Trust],
        smoothing: StickyFilter | None,
        abstain_below: float,
        recalibration: Recalibration | None = None,
        leak: float = 0.0,
    ) -> None:
        """``leak`` in 0..1 bounds what one modality may rule out, whatever the rule: see `agent.fusion.leaked`."""
        self.labels = tuple(labels)
        self.prior = prior
        self.rule = rule.name
        self._rule = rule
        self._trust = trust
        self._smoothing = smoothing
        self._abstain_below = abstain_below
        self._recalibration = recalibration or Recalibration()
        self._leak = leak
        known = all(label in PAD_ANCHORS for label in labels)
        self._anchors = np.array([PAD_ANCHORS[label] for label in labels]) / 2 + 0.5 if known else None  # (K, 2)

    def succeed(self, former: FusionHead) -> None:
        """Go on from what ``former`` believed, where both smooth; for a change of settings, not of labels or prior."""
        if self._smoothing and former._smoothing and self is not former:
            self._smoothing.succeed(former._smoothing)

    def judge(self, evidence: Sequence[Evidence], end_ns: int, *, spared: bool = False) -> Verdict:
        """Fuse the evidence of the window that ends at ``end_ns``; none at all gives an abstention.

        Unless modalities were ``spared``: where the budget, and not the world, is why there is nothing to fuse, what
        is remembered of the windows before may still name a label.
        """
        weights = {e.modality: self._trust[e.modality].weight(e, end_ns) for e in evidence}
        combined, probs = self._fused(evidence, weights)
        if self._smoothing:
            probs = self._smoothing.update(probs, end_ns)
        top = int(probs.argmax())
        confidence = float(probs[top])
        founded = any(weights.values()) or (spared and self._smoothing is not None)
        return Verdict(
            label=self.labels[top] if founded and confidence >= self._abstain_below else None,
            confidence=confidence,
            probs=probs,
            conflict=combined.conflict,
            weights=weights,
            shares={e.modality: float(combined.shares[ROWS[e.modality]]) for e in evidence},
            dimensions=self._dimensions(probs, evidence, weights),
        )

    def foresee(self, end_ns: int) -> Floats:
        """The belief (K,) about the window that ends at ``end_ns``, before anything in it was looked at."""
        return self._smoothing.after(self.prior, end_ns) if self._smoothing else self.prior

    def gains(self, evidence: Sequence[Evidence], end_ns: int) -> dict[Modality, float]:
        """The information, in nats, that each modality adds to the belief which `judge` will give: ask before it.

        It is the Kullback-Leibler divergence of the belief with all of the evidence from that without the modality's.
        Its expectation is that of the fall in entropy (Lindley 1956; MacKay 1992), but it is never below 0, and counts
        evidence that corrects a wrong belief, which may raise the entropy, for what it is worth.
        """
        whole = self._believed(evidence, end_ns)
        return {
            e.modality: divergence(whole, self._believed([other for other in evidence if other is not e], end_ns))
            for e in evidence
        }

    def _believed(self, evidence: Sequence[Evidence], end_ns: int) -> Floats:
        weights = {e.modality: self._trust[e.modality].weight(e, end_ns) for e in evidence}
        _, probs = self._fused(evidence, weights)
        return self._smoothing.after(probs, end_ns) if self._smoothing else probs

    def _fused(self, evidence: Sequence[Evidence], weights: Mapping[Modality, float]) -> tuple[Combined, Floats]:
        """What the rule makes of it, and the recalibrated posterior (K,) of this window alone."""
        silent = np.tile(self.prior, (len(ROWS), 1))
        said, priors, trusted = silent.copy(), silent.copy(), np.zeros(len(ROWS))
        for e in evidence:
            row = ROWS[e.modality]
            said[row], priors[row], trusted[row] = e.probs, e.prior, weights[e.modality]
        embeddings: list[F32 | None] = [None] * len(ROWS)
        for e in evidence:
            embeddings[ROWS[e.modality]] = e.embedding
        believed = leaked(rebased(said, priors, self.prior), self.prior, self._leak)
        combined = self._rule.combine(believed, trusted, silent, self.prior, embeddings)
        return combined, self._recalibration.apply(combined.probs, self.prior, trusted > 0)

    def _dimensions(
        self, probs: Floats, evidence: Sequence[Evidence], weights: Mapping[Modality, float]
    ) -> dict[str, float]:
        if self._anchors is None:
            return {}
        valence, arousal = (float(x) for x in probs @ self._anchors)
        for e in evidence:
            if "arousal" in e.dimensions:  # a voice that is heard tells arousal better than any label
                weight = weights[e.modality]
                arousal = (1 - weight) * arousal + weight * e.dimensions["arousal"]
        return {"valence": valence, "arousal": arousal}


def divergence(p: Floats, q: Floats) -> float:
    """Kullback-Leibler divergence of p (K,) from q (K,) in nats; at least 0."""
    p, q = np.maximum(p, TINY), np.maximum(q, TINY)
    return max(0.0, float(p @ np.log(p / q)))


def read_learned(path: Path) -> LearnedHead:
    """The trained head in an .npz of `LearnedHead.arrays`; raises `HeadError`, which names the file, if it is none."""
    return read_head(path, LearnedHead.of, "a trained fusion head")


def read_embedded(path: Path) -> EmbeddedHead:
    """The same of `EmbeddedHead.arrays`."""
    return read_head(path, EmbeddedHead.of, "a trained fusion head that reads embeddings")
