"""ONNX Runtime: the back end that runs everywhere, on the CPU."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

# Builds of ONNX Runtime may collect usage data, in a file under the user's cache directory, for sending. Nothing leaves
# the machine from here. Its own switch, disable_telemetry_events(), comes after the file was made.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime as ort

from engines import Array, EngineError, Tensor, check_feeds

_DTYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(bool)": np.bool_,
}


_AS_REQUESTED = 1
"""Of `arena_extend_strategy`: by what is asked for, instead of twice as much each time (OrtArenaCfg)."""


@functools.cache
def _share_arena() -> None:
    """One arena for every session of the process: what a run needs for its intermediate results, the next one uses.

    Left to itself ONNX Runtime keeps an arena for each session, as large as the largest input ever needed, for ever.
    """
    memory = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    ort.create_and_register_allocator(memory, ort.OrtArenaCfg({"arena_extend_strategy": _AS_REQUESTED}))


class OrtEngine:
    """One session. Its memory is that of all sessions, and no thread spins: an edge box has better to do."""

    backend = "onnxruntime"

    def __init__(self, path: Path, *, threads: int = 1, content: bytes | None = None, cuda: bool = False) -> None:
        """`content` stands for what is in the file; `cuda` runs it on the GPU, by ONNX Runtime's own kernels."""
        _share_arena()
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.use_env_allocators", "1")
        options.enable_mem_pattern = False  # a plan of memory would be kept for each length of input there ever was
        options.log_severity_level = 3
        self._name = path.name
        self._device = "CUDA" if cuda else "CPU"
        if cuda and "CUDAExecutionProvider" not in ort.get_available_providers():
            raise EngineError(f"{path.name}: this onnxruntime {ort.__version__} has no CUDA; install onnxruntime-gpu")
        try:
            providers = [f"{self._device}ExecutionProvider"]
            self._session = ort.InferenceSession(content or path, options, providers=providers)
        except Exception as error:  # onnxruntime's exceptions have no common base below Exception
            raise EngineError(f"{path}: onnxruntime {ort.__version__} cannot open it: {error}") from error
        self.inputs = tuple(map(_tensor, self._session.get_inputs()))
        self.outputs = tuple(map(_tensor, self._session.get_outputs()))
        self._output_names = [tensor.name for tensor in self.outputs]

    def infer(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        check_feeds(self._name, self.inputs, feeds)
        try:
            results = self._session.run(self._output_names, dict(feeds))
        except Exception as error:  # as above
            shapes = {name: list(array.shape) for name, array in feeds.items()}
            raise EngineError(f"{self._name}: onnxruntime failed on inputs of shape {shapes}: {error}") from error
        return dict(zip(self._output_names, results, strict=True))

    def close(self) -> None:
        del self._session

    def __str__(self) -> str:
        sides = (", ".join(map(str, side)) for side in (self.inputs, self.outputs))
        return f"{self._name} on onnxruntime {ort.__version__} ({self._device}): {' -> '.join(sides)}"


def _tensor(arg: Any) -> Tensor:
    shape = tuple(n if isinstance(n, int) else str(n or f"axis{i}") for i, n in enumerate(arg.shape))
    try:
        return Tensor(arg.name, np.dtype(_DTYPES[arg.type]), shape)
    except KeyError:
        raise EngineError(f"{arg.name} has the type {arg.type}; known are {', '.join(_DTYPES)}") from None
