"""The safetensors format: a length, a JSON header, and the numbers one after the other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from agent.types import F32
from engines.convert.graph import ConversionError

_DTYPES: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2")}


def read(path: Path) -> dict[str, F32]:
    """Its tensors of floats by name, as float32; integers are passed over. Raises `ConversionError`."""
    data = path.read_bytes()
    try:
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length])
        header.pop("__metadata__", None)
        found = {}
        for name, entry in header.items():
            if entry["dtype"] in _DTYPES:
                begin, end = (8 + length + offset for offset in entry["data_offsets"])
                numbers = np.frombuffer(data[begin:end], _DTYPES[entry["dtype"]])
                found[name] = numbers.reshape(entry["shape"]).astype(np.float32)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConversionError(f"{path}: not safetensors: {error}") from error
    return found
