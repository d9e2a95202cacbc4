"""Trained heads in files."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np

from agent.fusion.arrays import Arrays, HeadError

Head = TypeVar("Head")


def read_head(path: Path, build: Callable[[Arrays], Head], what: str) -> Head:
    """What `build` makes of the arrays in an .npz; nothing in it is unpickled.

    Raises `HeadError`, ``path: not what: why``, where the file cannot be read, or `build` raises `ValueError` or
    `TypeError` over what it holds.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return build(arrays)
    except (OSError, ValueError, EOFError, TypeError, zipfile.BadZipFile) as error:
        raise HeadError(f"{path}: not {what}: {error}") from error
