"""CTranslate2 model files (``model.bin``) to ONNX.

Read here is the container, version 6, as ``ctranslate2/specs/model_spec.py`` writes it; what stands in it is rebuilt
by the module of its architecture (`engines.convert.whisper`).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from engines.convert.graph import ConversionError, reading
from engines.convert.whisper import Form, Graph, Whisper

CONTAINER_VERSION = 6
_DTYPES: tuple[type[np.generic], ...] = (np.float32, np.int8, np.int16, np.int32, np.float16)
"""By the number that the file gives them."""

Array = npt.NDArray[Any]


class FormatError(ConversionError):
    """The file is not what the converter reads. The message says where it differs."""


@dataclass(frozen=True, slots=True)
class Contents:
    """One model file."""

    spec: str
    """The architecture, such as ``WhisperSpec``."""
    variables: Mapping[str, Array]
    """By path, such as ``encoder/conv1/weight``; floats as float32. Aliases are entries of the same array."""


def read(path: Path) -> Contents:
    """Read the file at `path`; raises `FormatError`."""
    data = path.read_bytes()
    try:
        return _parse(data, path.name)
    except (struct.error, ValueError, LookupError) as error:
        raise FormatError(f"{path}: broken off or not a CTranslate2 model ({error}); fetch it again") from error


def convert(sources: Sequence[Path], destination: Path, *, options: Mapping[str, object]) -> None:
    """Write one ONNX graph (opset 17) of the model at ``sources[0]``; the same input gives the same bytes.

    Options: ``graph``, one of ``embedding`` (with ``layers``, 2 by default), ``encoder`` and ``decoder``, all
    described in `engines.convert.whisper`; ``weights``, ``float32`` (default) or ``int8``.
    Raises `FormatError` for another architecture, and ValueError for an option that is not known.
    """
    contents = read(sources[0])
    if contents.spec != "WhisperSpec":
        raise FormatError(f"{sources[0]}: holds a {contents.spec}; only WhisperSpec can be converted")
    known = {"graph", "layers", "weights"}
    if not options.keys() <= known:
        raise ValueError(f"options {sorted(options.keys() - known)} are not known; known are {sorted(known)}")
    form, graph = Form(str(options.get("weights", "float32"))), Graph(str(options.get("graph")))
    layers = int(str(options.get("layers", 2)))
    with reading(sources[0]):
        model = Whisper(contents.variables, form).build(graph, layers=layers)
        destination.write_bytes(model.SerializeToString(deterministic=True))


def _parse(data: bytes, name: str) -> Contents:
    reader = _Reader(data)
    version = reader.number("I")
    if version != CONTAINER_VERSION:
        raise FormatError(f"{name}: container version {version}, can read {CONTAINER_VERSION}")
    spec, _revision = reader.text(), reader.number("I")
    variables = dict(reader.variable() for _ in range(reader.number("I")))
    for _ in range(reader.number("I")):
        alias, target = reader.text(), reader.text()
        variables[alias] = variables[target]
    if not reader.at_end:
        raise FormatError(f"{name}: {reader.left} bytes follow the last alias")
    return Contents(spec, variables)


class _Reader:
    """Walks over the bytes of a model file. Numbers are little-endian; strings carry their length and a final NUL."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    @property
    def at_end(self) -> bool:
        return self.left == 0

    def number(self, code: str) -> int:
        (value,) = struct.unpack_from("<" + code, self._data, self._at)
        self._at += struct.calcsize("<" + code)
        return int(value)

    def text(self) -> str:
        return self._take(self.number("H"))[:-1].decode()

    def variable(self) -> tuple[str, Array]:
        name = self.text()
        shape = tuple(self._dims())
        dtype = np.dtype(_DTYPES[self.number("B")])
        array = np.frombuffer(self._take(self.number("I")), dtype).reshape(shape)
        return name, array.astype(np.float32) if dtype.kind == "f" else array

    def _dims(self) -> Iterator[int]:
        for _ in range(self.number("B")):
            yield self.number("I")

    def _take(self, n: int) -> bytes:
        if n > self.left:
            raise IndexError(f"{n} bytes wanted at {self._at}, {self.left} left")
        taken = self._data[self._at : self._at + n]
        self._at += n
        return taken
