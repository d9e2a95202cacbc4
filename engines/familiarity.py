"""How far what an encoder's network makes of an input is like what it made of the inputs the head was trained on.

A head extrapolates: of a covered face or a far voice it may be as sure as ever. How much of a feature vector lies
outside the few directions in which ordinary ones differ tells these apart (the squared residual of a principal
component analysis, Jackson and Mudholkar 1979, Technometrics 21). It says nothing of how sure the posterior is, which
fusion knows already. `engines.training.quality` fits the directions; here they are only read and applied, with numpy.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from agent.fusion.arrays import Arrays, HeadError, numbers, refuse_misfits, refuse_missing
from agent.npz import read_head
from agent.types import F64

BEND = 3.0
"""With so many times the usual residual an input is half familiar."""
STEEP = 3
"""How sharply it bends there: at half of it familiarity is 0.89, at twice of it 0.11. Both were set on people of the
training, read by encoders that had not been trained on them; anything from 2 to 4 does nearly as well."""


@dataclass(frozen=True, slots=True, eq=False)
class Familiarity:
    """The directions in which ordinary features differ, and how far off them they usually are."""

    mean: npt.NDArray[Any]
    """(D,), of the ordinary features."""
    scale: npt.NDArray[Any]
    """(D,), their standard deviation, above 0."""
    basis: npt.NDArray[Any]
    """(k, D), orthonormal: the leading principal components of the standardised features."""
    usual: float
    """Median of the mean squared residual of ordinary features that the basis was not fitted to."""

    def __post_init__(self) -> None:
        d = len(self.mean)
        refuse_misfits(self, {"mean": (d,), "scale": (d,), "basis": (len(self.basis), d)}, f"{d} features")
        if not (self.scale > 0).all() or not self.usual > 0:
            raise HeadError("scale and usual must be above 0")

    @classmethod
    def load(cls, path: Path) -> Familiarity:
        """Read what `save` wrote. Raises `HeadError`, also where the file holds anything but plain arrays."""
        return read_head(path, cls._of, "as `python -m engines.training quality` writes how familiar an input is")

    @classmethod
    def _of(cls, arrays: Arrays) -> Familiarity:
        names = [field.name for field in fields(cls)]
        refuse_missing(arrays, names)
        found = numbers(arrays, names, np.float32)
        return cls(**found | {"usual": float(found["usual"])})

    def save(self, path: Path) -> None:
        """Write an .npz that `load` reads, in half precision; the same gives the same bytes."""
        arrays = {name: np.asarray(getattr(self, name), np.float16) for name in ("mean", "scale", "basis")}
        np.savez(path, allow_pickle=False, usual=np.float32(self.usual), **arrays)

    def strangeness(self, x: npt.NDArray[Any]) -> F64:
        """(N, D) features to (N,): how many times the usual lies outside the ordinary directions, 0 or more."""
        if x.ndim != 2 or x.shape[1] != len(self.mean):
            raise HeadError(f"familiarity: takes features of shape (N, {len(self.mean)}), was given {x.shape}")
        away = (x - self.mean) / self.scale
        rest = away - away @ self.basis.T @ self.basis
        return np.asarray(np.mean(np.square(rest), axis=1) / self.usual, np.float64)

    def of(self, x: npt.NDArray[Any]) -> F64:
        """(N, D) features to (N,), 0..1: 1 where they are ordinary."""
        return np.asarray(1 / (1 + (self.strangeness(x) / BEND) ** STEEP), np.float64)
