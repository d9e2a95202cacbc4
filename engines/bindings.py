"""The part of TensorRT's Python API that is the same in TensorRT 10, TensorRT 11 and TensorRT-RTX.

`engines.trt` and `engines.builder` are written against these protocols, so that mypy refuses any other name, and a test
looks each of them up in what the real bindings offer. Which package it is does not matter after `load_bindings`.
"""

from __future__ import annotations

import importlib
import threading
from collections import deque
from collections.abc import Sequence
from functools import cache
from typing import Any, Protocol, cast

from engines import EngineError

PACKAGES = {"tensorrt": "tensorrt", "tensorrt_rtx": "tensorrt_rtx_bindings"}
"""Module to import by flavour, in the order of preference."""


class Profile(Protocol):
    """``IOptimizationProfile``."""

    def set_shape(self, input: str, min: Sequence[int], opt: Sequence[int], max: Sequence[int]) -> None: ...  # noqa: A002


class Tensor(Protocol):
    """``ITensor``."""

    name: str
    shape: Sequence[int]

    def get_dimension_name(self, index: int) -> str | None: ...


class Network(Protocol):
    """``INetworkDefinition``."""

    num_inputs: int

    def get_input(self, index: int) -> Tensor: ...


class Config(Protocol):
    """``IBuilderConfig``."""

    def set_flag(self, flag: Any) -> None: ...

    def add_optimization_profile(self, profile: Profile) -> int: ...

    def set_memory_pool_limit(self, pool: Any, pool_size: int) -> None: ...


class Builder(Protocol):
    """``Builder``. Never made without a CUDA device, but by TensorRT-RTX, whose builder needs none."""

    def create_network(self, flags: int) -> Network: ...

    def create_builder_config(self) -> Config: ...

    def create_optimization_profile(self) -> Profile: ...

    def build_serialized_network(self, network: Network, config: Config) -> Any: ...


class ParserError(Protocol):
    """``ParserError``."""

    def node_name(self) -> str: ...

    def node_operator(self) -> str: ...

    def desc(self) -> str: ...


class Parser(Protocol):
    """``OnnxParser``."""

    num_errors: int

    def parse(self, model: bytes) -> bool: ...

    def get_error(self, index: int) -> ParserError: ...


class Context(Protocol):
    """``IExecutionContext``."""

    def set_input_shape(self, name: str, shape: Sequence[int]) -> bool: ...

    def get_tensor_shape(self, name: str) -> Sequence[int]: ...

    def set_device_memory(self, memory: int, size: int) -> None: ...

    def set_tensor_address(self, name: str, memory: int) -> bool: ...

    def execute_async_v3(self, stream_handle: int) -> bool: ...


class Plan(Protocol):
    """``ICudaEngine``."""

    num_io_tensors: int
    device_memory_size_v2: int

    def get_tensor_name(self, index: int) -> str: ...

    def get_tensor_dtype(self, name: str) -> Any: ...

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> Sequence[Sequence[int]]: ...

    def create_execution_context(self, strategy: Any) -> Context | None:
        """`strategy` is one of memory; TensorRT-RTX takes an `engines.rtx.RuntimeConfig` as well."""


class Runtime(Protocol):
    """``Runtime``. Never made without a CUDA device: some crash the process."""

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> Plan | None: ...


class Bindings(Protocol):
    """The module."""

    __version__: str
    ILogger: Any
    NetworkDefinitionCreationFlag: Any
    MemoryPoolType: Any
    ExecutionContextAllocationStrategy: Any

    def Builder(self, logger: Any) -> Builder: ...  # noqa: N802

    def OnnxParser(self, network: Network, logger: Any) -> Parser: ...  # noqa: N802

    def Runtime(self, logger: Any) -> Runtime: ...  # noqa: N802

    def __hash__(self) -> int: ...


CLASSES: dict[type[Any], str] = {
    Profile: "IOptimizationProfile",
    Tensor: "ITensor",
    Network: "INetworkDefinition",
    Config: "IBuilderConfig",
    Builder: "Builder",
    ParserError: "ParserError",
    Parser: "OnnxParser",
    Context: "IExecutionContext",
    Plan: "ICudaEngine",
    Runtime: "Runtime",
}
"""What each protocol is called in the bindings."""


def load_bindings() -> tuple[str, Bindings]:
    """Flavour and module of the first package that is there. Importing it touches no GPU. Raises `EngineError`."""
    faults = []
    for flavour, package in PACKAGES.items():
        try:
            return flavour, cast(Bindings, importlib.import_module(package))
        except ModuleNotFoundError:
            continue
        except (ImportError, OSError) as error:  # the libraries are not there, or are another version's
            faults.append(f"{package} cannot be loaded: {error}")
    raise EngineError(
        "; ".join(faults)
        or "TensorRT is not installed; on x86-64: pip install -e '.[models,gpu]', on Jetson: apt-get install"
        " python3-libnvinfer, in a virtual environment with --system-site-packages (docs/jetson.md)"
    )


class Complaints:
    """What TensorRT said that is worse than a warning, the newest `MOST`."""

    MOST = 64

    def __init__(self) -> None:
        self._lines: deque[tuple[int, str]] = deque(maxlen=self.MOST)
        self._lock = threading.Lock()

    def add(self, line: str) -> None:
        with self._lock:
            self._lines.append((threading.get_ident(), line))

    def taken(self) -> list[str]:
        """Those of this thread, and of threads that TensorRT started, since it was last asked."""
        others = {thread.ident for thread in threading.enumerate()} - {threading.get_ident()}
        with self._lock:
            mine = [line for thread, line in self._lines if thread not in others]
            left = [each for each in self._lines if each[0] in others]
            self._lines.clear()
            self._lines.extend(left)
        return mine


@cache
def shared_logger(bindings: Bindings) -> tuple[Any, Complaints]:
    """The logger for everything of `bindings`, and what comes to it.

    TensorRT knows one logger at a time, the first, for as long as anything lives that was made with any: a second is
    ignored, and the first must outlive them all. So this one lives as long as the process.
    """
    complaints = Complaints()

    class Logger(bindings.ILogger):  # type: ignore[misc, name-defined]  # the base is known at run time only
        def __init__(self) -> None:
            bindings.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if int(severity) <= int(bindings.ILogger.ERROR):
                complaints.add(" ".join(message.split()))

    return Logger(), complaints
