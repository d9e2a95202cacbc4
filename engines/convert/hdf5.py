"""HDF5 files of Keras, read by a process of their own.

The HDF5 library never returns from some damaged files, and crashes over others, which no ``try`` can catch. The process
that reads one ends after `LIMIT_S` and takes no more than `MAX_MEMORY`; it hands over plain arrays.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from engines.convert.graph import MAX_NBYTES, ConversionError

Array = npt.NDArray[Any]

LIMIT_S = 60.0
MAX_MEMORY = 4 << 30
"""Bytes of address space."""
_CONFIG = "model_config"
_ROOT = "model_weights"
_TOLD, _ARRAYS = "told.json", "arrays.npz"
"""What the process leaves behind."""


@dataclass(frozen=True, slots=True)
class Contents:
    """What a model's file holds."""

    config: str | None
    """The layers, in JSON; None in a file of weights alone."""
    weights: Mapping[str, Array]
    """By path, such as ``conv/conv/kernel:0``."""


def read(path: Path) -> Contents:
    """Read the file at `path`; raises `ConversionError`."""
    with tempfile.TemporaryDirectory(prefix="hdf5-") as folder:
        command = [sys.executable, "-m", "engines.convert.hdf5", str(path.absolute()), folder]
        try:
            ended = subprocess.run(
                command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=LIMIT_S, check=False
            )
        except subprocess.TimeoutExpired:
            raise ConversionError(
                f"{path}: damaged: reading it had not ended after {LIMIT_S:g} s; fetch it again"
            ) from None
        if ended.returncode:
            said = (ended.stderr.strip().splitlines() or [f"its reader died with {ended.returncode}"])[-1]
            raise ConversionError(f"{path.name}: not an HDF5 file, or damaged: {said}")
        told = json.loads((Path(folder) / _TOLD).read_text(encoding="utf-8"))
        with np.load(Path(folder) / _ARRAYS, allow_pickle=False) as found:
            return Contents(told["config"], dict(zip(told["names"], found.values(), strict=True)))


def _main(path: str, folder: str) -> None:
    """In the process: take out the layers and the weights, and nothing else."""
    import resource

    import h5py

    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, resource.RLIM_INFINITY))
    found: dict[str, Array] = {}

    def take(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            if item.nbytes > MAX_NBYTES - sum(array.nbytes for array in found.values()):
                raise ValueError(f"{name} claims {item.nbytes} bytes; a model may have {MAX_NBYTES} in all")
            found[name] = np.asarray(item[()], np.float32)

    with h5py.File(path, "r") as file:
        file.get(_ROOT, file).visititems(take)  # a file of weights alone has them at its root
        config = str(file.attrs[_CONFIG]) if _CONFIG in file.attrs else None
    told = {"config": config, "names": list(found)}
    (Path(folder) / _TOLD).write_text(json.dumps(told), encoding="utf-8")
    np.savez(Path(folder) / _ARRAYS, *found.values())


if __name__ == "__main__":
    _main(*sys.argv[1:])
