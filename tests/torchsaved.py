"""Files as ``torch.save`` wrote them before PyTorch 1.6, written without torch: one storage for each tensor."""

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

BEGIN = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19." + b"\x80\x02M\xe9\x03." + b"\x80\x02}."
"""The magic number, the protocol's, and what is said of the machine, each pickled."""
REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"
STORAGES = {"float32": b"ctorch\nFloatStorage\n", "int64": b"ctorch\nLongStorage\n"}


def write(path: Path, held: Mapping[str, npt.NDArray[Any]], *, rebuild: bytes = REBUILD) -> Path:
    """A ``state_dict``. An array that is not contiguous in memory has its strides in the file."""
    entries, numbers = b"", b""
    for name, array in held.items():
        strides = [step // array.itemsize for step in array.strides]
        storage = b"(" + text("storage") + STORAGES[array.dtype.name] + text(name) + text("cpu") + whole(array.size)
        entries += text(name) + rebuild + b"(" + storage + b"NtQ" + whole(0) + row(array.shape) + row(strides)
        entries += b"\x89" + b"ccollections\nOrderedDict\n)R" + b"tR"
        memory = np.lib.stride_tricks.as_strided(array, (array.size,), (array.itemsize,))
        numbers += struct.pack("<q", array.size) + memory.tobytes()
    state = b"\x80\x02ccollections\nOrderedDict\n)R(" + entries + b"u."
    keys = b"\x80\x02](" + b"".join(text(name) for name in held) + b"e."
    path.write_bytes(BEGIN + state + keys + numbers)
    return path


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def whole(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def row(values: object) -> bytes:
    assert isinstance(values, (list, tuple))
    return b"(" + b"".join(map(whole, values)) + b"t"
