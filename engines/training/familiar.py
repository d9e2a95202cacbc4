"""Fits `engines.familiarity.Familiarity` to the features of inputs as they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from engines.familiarity import Familiarity

DIRECTIONS = 20
"""Of 5 to 160, as good as any from 20 on."""
KEPT = 5
"""One in so many groups is kept out of the directions, to see what residual is usual."""
_FLAT = 0.05
"""Least scale of a feature, in medians of all: what hardly ever moves must not decide alone."""
SEED = 0


def fit(x: npt.NDArray[Any], groups: npt.NDArray[Any]) -> Familiarity:
    """Of features (N, D), N greater than `DIRECTIONS`, of people or speakers `groups` (N,). Deterministic."""
    names = np.unique(groups)
    names = np.random.default_rng(SEED).permutation(names)
    kept = np.isin(groups, names[: max(1, len(names) // KEPT)])
    own = x[~kept].astype(np.float64)
    mean, scale = own.mean(axis=0), own.std(axis=0)
    scale = np.maximum(scale, _FLAT * np.median(scale))
    away = (own - mean) / scale
    _, directions = np.linalg.eigh(away.T @ away)
    basis = directions[:, : -DIRECTIONS - 1 : -1].T
    found = Familiarity(mean, scale, basis, 1.0)
    return Familiarity(mean, scale, basis, float(np.median(found.strangeness(x[kept]))))
