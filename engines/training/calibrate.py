"""A head that calibrates logits: one temperature for all labels and one shift for each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from agent.types import F32, F64
from engines.evaluation.metrics import Ints
from engines.head import Head

SHIFT_PENALTY = 1.0
"""Squared shifts, in nats of one example, that are added to the loss: a shift must pay for itself."""


def calibrate(logits: F32, y: Ints, *, labels: Sequence[str], prior: F64) -> Head:
    """Fit ``softmax(logits / T + b)`` (Guo et al. 2017) to logits (N, K) that were not trained on, by likelihood.

    Newton's method on 1 / T and b (K,), its steps halved until the loss falls: it is convex in them. The head reads
    the logits as its features.
    """
    x, k = logits.astype(np.float64), len(labels)
    x = x - x.mean(axis=1, keepdims=True)
    truth = np.eye(k)[y]  # (N, K)
    design = np.concatenate([x[:, :, None], np.broadcast_to(np.eye(k), (len(x), k, k))], axis=2)  # (N, K, 1 + K)
    penalty = SHIFT_PENALTY * np.array([0.0] + [1.0] * k)
    theta = np.array([1.0] + [0.0] * k)
    for _ in range(100):
        probs, before = _fitted(design, truth, penalty, theta)
        slope = np.einsum("nkp,nk->p", design, probs - truth) + penalty * theta
        centred = design - np.einsum("nk,nkp->np", probs, design)[:, None, :]
        bend = np.einsum("nk,nkp,nkq->pq", probs, centred, centred, optimize=True) + np.diag(penalty + 1e-9)
        step = np.linalg.solve(bend, slope)
        while (theta[0] <= step[0] or _fitted(design, truth, penalty, theta - step)[1] > before) and abs(
            step
        ).max() > 1e-9:
            step /= 2
        theta = theta - step
        if np.abs(step).max() < 1e-7:
            break
    return Head(
        mean=np.zeros(k),
        scale=np.ones(k),
        weight=np.eye(k),
        bias=theta[1:] / theta[0],
        temperature=float(1 / theta[0]),
        prior=prior,
        labels=tuple(labels),
    )


def _fitted(design: F64, truth: F64, penalty: F64, theta: F64) -> tuple[F64, float]:
    """The posteriors (N, K) under `theta`, and the loss."""
    z = design @ theta  # (N, K)
    z = z - z.max(axis=1, keepdims=True)
    logs = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    return np.exp(logs), float(-(truth * logs).sum() + (penalty * theta**2).sum() / 2)
