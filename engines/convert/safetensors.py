"""The safetensors format: a length, a JSON header, and the numbers one after the other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from agent.types import F32
from engines.convert.graph import ConversionError, reading

_DTYPES: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2")}


def read(path: Path) -> dict[str, F32]:
    """Its tensors of floats by name, as float32; integers are passed over. Raises `ConversionError`."""
    data = path.read_bytes()
    with reading(path):
        length = int.from_bytes(data[:8], "little")
        try:
            header = json.loads(data[8 : 8 + length])
        except (ValueError, RecursionError) as error:
            raise ConversionError(f"{path}: not safetensors: {error}") from error
        header.pop("__metadata__", None)
        left = len(data) - 8 - length
        found = {}
        for name, entry in header.items():
            begin, end = entry["data_offsets"]
            left -= end - begin
            if not 0 <= begin <= end or left < 0:  # else a small file could name the same bytes again and again
                raise ConversionError(f"{path}: not safetensors: {name} lies at {begin} to {end}, outside of the data")
            if entry["dtype"] in _DTYPES:
                numbers = np.frombuffer(data[8 + length + begin : 8 + length + end], _DTYPES[entry["dtype"]])
                found[name] = numbers.reshape(entry["shape"]).astype(np.float32)
    return found
