"""What ``torch.save`` wrote before PyTorch 1.6: pickles of what is held, then the numbers, one storage after the other.

Nothing in the file is run: of all names that a pickle may ask for, those of `_Unpickler` are known alone, and what they
make is plain data.
"""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from engines.convert.graph import ConversionError, reading

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
"""The first two things in such a file (``torch/serialization.py``)."""
_STORAGES = {"FloatStorage": "<f4", "LongStorage": "<i8"}


@dataclass(frozen=True, slots=True)
class _Storage:
    """A run of numbers, which stand further behind in the file."""

    dtype: str
    key: str
    length: int


@dataclass(frozen=True, slots=True)
class _Tensor:
    """A look into a storage; offset and strides in numbers."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def array(self, storages: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[Any]:
        """A view. Raises ValueError where it would reach outside, or show more numbers than there are."""
        numbers = storages[self.storage.key]
        last = self.offset + sum((n - 1) * s for n, s in zip(self.shape, self.strides, strict=True))
        whole = all(isinstance(n, int) and n > 0 for n in self.shape) and all(s >= 0 for s in self.strides)
        if not whole or not 0 <= self.offset <= last < len(numbers) or np.prod(self.shape, dtype=float) > len(numbers):
            raise ValueError(f"a tensor of shape {self.shape} reaches outside of its {len(numbers)} numbers")
        strides = [s * numbers.itemsize for s in self.strides]
        return np.lib.stride_tricks.as_strided(numbers[self.offset :], self.shape, strides, writeable=False)


class _Unpickler(pickle.Unpickler):
    """Makes tensors and dictionaries of them, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        match module, name:
            case "collections", "OrderedDict":
                return OrderedDict
            case "torch._utils", "_rebuild_tensor_v2":
                return self._tensor
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no weights need")

    def persistent_load(self, pid: Any) -> _Storage:
        _, dtype, key, _, length, _ = pid
        return _Storage(dtype, key, length)

    def _tensor(self, storage: _Storage, offset: int, shape: Any, strides: Any, *_: object) -> _Tensor:
        return _Tensor(storage, offset, tuple(shape), tuple(strides))


def read(path: Path) -> dict[str, npt.NDArray[Any]]:
    """The tensors of a saved ``state_dict`` by name, read-only. Raises `ConversionError`."""
    with reading(path):
        data = path.read_bytes()
        file = io.BytesIO(data)
        try:
            marks = _Unpickler(file).load(), _Unpickler(file).load()
            if marks != (MAGIC, PROTOCOL):
                raise ConversionError(f"{path}: not what torch.save wrote before PyTorch 1.6: it begins with {marks}")
            _Unpickler(file).load()  # the sizes of numbers where it was written
            tensors: dict[str, _Tensor] = dict(_Unpickler(file).load())
            keys = list(_Unpickler(file).load())
        except (pickle.PickleError, EOFError) as error:
            raise ConversionError(f"{path}: holds no weights that can be read: {error}") from error
        dtypes = {tensor.storage.key: tensor.storage.dtype for tensor in tensors.values()}
        place, storages = file.tell(), dict[str, npt.NDArray[Any]]()
        for key in keys:
            length = int.from_bytes(data[place : place + 8], "little")
            storages[key] = np.frombuffer(data, dtypes[key], length, place + 8)
            place += 8 + storages[key].nbytes
        return {name: tensor.array(storages) for name, tensor in tensors.items()}
