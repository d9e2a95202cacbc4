"""The parameters of a trained head: arrays by name, taken out and held against what they must be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from agent.seams import EncoderError

Arrays = Mapping[str, npt.NDArray[Any]]
"""As an .npz holds them; none holds objects."""


class HeadError(EncoderError, ValueError):
    """A trained head could not be read, or does not fit. The message says what was wanted and what was found."""


def refuse_missing(arrays: Arrays, names: Iterable[str]) -> None:
    """Raise `HeadError` where one of the names is not there."""
    if missing := [name for name in names if name not in arrays]:
        raise HeadError(f"{', '.join(missing)} missing; found {', '.join(arrays) or 'nothing'}")


def numbers(arrays: Arrays, names: Iterable[str], dtype: npt.DTypeLike) -> dict[str, Any]:
    """The arrays of these names, which must be there, as `dtype`; raises `HeadError` where one holds no numbers."""
    found = {name: arrays[name] for name in names}
    for name, array in found.items():
        if array.dtype.kind not in "fiu":
            raise HeadError(f"{name} must hold numbers; found {array.dtype}")
    return {name: array.astype(dtype) for name, array in found.items()}


def texts(array: npt.NDArray[Any]) -> tuple[str, ...]:
    """The names that an array holds, of labels or modalities."""
    return tuple(map(str, np.atleast_1d(array)))


def refuse_misfits(head: object, shapes: Mapping[str, tuple[int, ...]], because: str) -> None:
    """Raise `HeadError` where a field of `head` has another shape than `because` wants, or is not finite."""
    for name, shape in shapes.items():
        array: npt.NDArray[Any] = getattr(head, name)
        if array.shape != shape:
            raise HeadError(f"{name} has the shape {array.shape}; {because} want {shape}")
        if not np.isfinite(array).all():
            raise HeadError(f"{name} holds values that are not finite")
