"""Trained heads in files."""

from __future__ import annotations

import tokenize
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np

from agent.fusion.arrays import Arrays, HeadError

Head = TypeVar("Head")

DAMAGED = (
    *(ArithmeticError, EOFError, MemoryError, OSError, RuntimeError, TypeError, ValueError),
    *(tokenize.TokenError, zipfile.BadZipFile, zlib.error),
)
"""What NumPy and `zipfile` raise over files that were cut short or overwritten, by the place where they were."""


def read_head(path: Path, build: Callable[[Arrays], Head], what: str) -> Head:
    """What `build` makes of the arrays in an .npz; nothing in it is unpickled.

    Raises `HeadError`, ``path: not what: why``, where the file cannot be read, or `build` raises any of `DAMAGED` over
    what it holds.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            held = {name: arrays[name] for name in arrays}
            if others := [name for name, array in held.items() if not isinstance(array, np.ndarray)]:
                raise HeadError(f"{', '.join(others)} must be arrays as NumPy writes them")
            return build(held)
    except DAMAGED as error:
        raise HeadError(f"{path}: not {what}: {error}") from error
