"""A GPU that is none, and a TensorRT whose kernels are ONNX Runtime's: what the real ones do, as far as Attune sees.

Device memory is host memory with made-up addresses; work is put into a stream and done when somebody waits for it; a
capture records instead. A plan is the ONNX file it was built from, and an execution context refuses what a real one
refuses. ``python -m tests.fakegpu REQUEST`` is the builder's process with this TensorRT in it.
"""

import json
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import Enum
from itertools import count
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import onnx
import onnxruntime as ort
from google.protobuf.message import DecodeError

from engines import builder
from engines.bindings import Bindings
from engines.gpu import Buffer, GpuInfo, Graph
from engines.platforms import Platform

VERSION = "10.0.fake"


class FakeCudaError(Exception):
    pass


class _Memory:
    def __init__(self, gpu: "FakeGpu", n: int) -> None:
        gpu.allocations += 1
        self.device = next(gpu.addresses) << 32
        self._gpu = gpu
        gpu.memory_by_address[self.device] = np.full(n, 0xA5, np.uint8)

    def close(self) -> None:
        del self._gpu.memory_by_address[self.device]


class _Buffer(_Memory):
    def __init__(self, gpu: "FakeGpu", n: int) -> None:
        super().__init__(gpu, n)
        self.host = np.full(n, 0x5A, np.uint8)


class _Stream:
    def __init__(self, gpu: "FakeGpu") -> None:
        self._gpu = gpu
        self.handle = next(gpu.addresses)
        self.queue: list[Callable[[], None]] = []
        gpu.streams[self.handle] = self

    def upload(self, buffer: Buffer, n: int) -> None:
        self.queue.append(lambda: np.copyto(self._gpu.at(buffer.device)[:n], buffer.host[:n]))

    def download(self, buffer: Buffer, n: int) -> None:
        self.queue.append(lambda: np.copyto(buffer.host[:n], self._gpu.at(buffer.device)[:n]))

    def synchronize(self) -> None:
        if self._gpu.broken:
            raise FakeCudaError("an illegal memory access was encountered")
        queue, self.queue = self.queue, []
        for work in queue:
            work()

    def capture(self, work: Callable[[], None]) -> Graph | None:
        if not self._gpu.captures:
            return None
        assert not self.queue, "a capture begins on a stream that has nothing to do"
        work()
        recorded, self.queue = self.queue, []
        if self._gpu.refuses:
            raise FakeCudaError("operation failed due to a previous error during capture")
        return _Graph(self, recorded)

    def close(self) -> None:
        del self._gpu.streams[self.handle]


class _Graph:
    def __init__(self, stream: _Stream, recorded: list[Callable[[], None]]) -> None:
        self._stream = stream
        self._recorded = recorded
        stream._gpu.graphs += 1

    def launch(self) -> None:
        self._stream._gpu.launches += 1
        self._stream.queue += self._recorded

    def close(self) -> None:
        self._stream._gpu.graphs -= 1


class FakeGpu:
    """Counts what it is asked for."""

    errors: tuple[type[Exception], ...] = (FakeCudaError,)

    def __init__(self, *, captures: bool = True, name: str = "Fake GPU") -> None:
        self.info = GpuInfo(0, name, "9.9")
        self.captures = captures
        self.refuses = False
        """No capture ends well."""
        self.broken = False
        self.lost = False
        """Not even its context can be had."""
        self.addresses = count(1)
        self.memory_by_address: dict[int, np.ndarray[Any, np.dtype[np.uint8]]] = {}
        self.streams: dict[int, _Stream] = {}
        self.allocations = self.launches = self.graphs = 0

    @contextmanager
    def current(self) -> Iterator[None]:
        if self.lost:
            raise FakeCudaError("context is destroyed")
        yield

    def memory(self, n: int) -> _Memory:
        return _Memory(self, n)

    def buffer(self, n: int) -> Buffer:
        return _Buffer(self, n)

    def stream(self) -> _Stream:
        return _Stream(self)

    def at(self, address: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
        return self.memory_by_address[address]


class _Enum(Enum):
    STRONGLY_TYPED = 1
    WORKSPACE = 2
    USER_MANAGED = 3

    def __int__(self) -> int:
        return int(self.value)


class FakeLogger:
    ERROR = 1

    def log(self, severity: int, message: str) -> None:
        raise NotImplementedError


class FakeTensorRT:
    """The module. `gpu` None has no runtime, as a builder's process without a device has none."""

    __version__ = VERSION
    ILogger = FakeLogger
    NetworkDefinitionCreationFlag = _Enum
    MemoryPoolType = _Enum
    ExecutionContextAllocationStrategy = _Enum

    def __init__(self, gpu: FakeGpu | None = None) -> None:
        self._gpu = gpu
        self.starts = True

    def Builder(self, logger: Any) -> "_Builder":
        self._start(logger)
        return _Builder(logger)

    def OnnxParser(self, network: "_Network", logger: Any) -> "_Parser":
        return _Parser(network)

    def Runtime(self, logger: Any) -> "_Runtime":
        assert self._gpu, "a runtime without a device crashes the process"
        self._start(logger)
        return _Runtime(self._gpu, logger)

    def _start(self, logger: Any) -> None:
        if not self.starts:
            logger.log(1, "CUDA initialization failure with error: 35")
            raise TypeError("pybind11::init(): factory function returned nullptr")


class _Network:
    model: onnx.ModelProto

    @property
    def num_inputs(self) -> int:
        return len(self.model.graph.input)

    def get_input(self, i: int) -> Any:
        value = self.model.graph.input[i]
        dims = value.type.tensor_type.shape.dim
        return SimpleNamespace(
            name=value.name,
            shape=[-1 if dim.dim_param else dim.dim_value for dim in dims],
            get_dimension_name=lambda axis: dims[axis].dim_param or None,
        )


class _Parser:
    REFUSED = "DynamicQuantizeLinear"

    def __init__(self, network: _Network) -> None:
        self._network = network
        self._errors: list[Any] = []

    @property
    def num_errors(self) -> int:
        return len(self._errors)

    def parse(self, content: bytes) -> bool:
        self._network.model = onnx.load_from_string(content)
        for node in self._network.model.graph.node:
            if node.op_type == self.REFUSED:
                error = {"node_name": node.name, "node_operator": node.op_type, "desc": "unsupported"}
                self._errors.append(SimpleNamespace(**{k: lambda v=v: v for k, v in error.items()}))
        return not self._errors

    def get_error(self, i: int) -> Any:
        return self._errors[i]


class _Builder:
    def __init__(self, logger: Any) -> None:
        self._logger = logger

    def create_network(self, flags: int) -> _Network:
        return _Network()

    def create_builder_config(self) -> Any:
        profiles: list[dict[str, Any]] = []
        return SimpleNamespace(
            profiles=profiles, set_memory_pool_limit=lambda pool, n: None, add_optimization_profile=profiles.append
        )

    def create_optimization_profile(self) -> Any:
        class Profile(dict[str, Any]):
            def set_shape(self, name: str, *shapes: Sequence[int]) -> None:
                self[name] = shapes

        return Profile()

    def build_serialized_network(self, network: _Network, config: Any) -> bytes:
        header = json.dumps(config.profiles[0]).encode()
        content: bytes = network.model.SerializeToString()
        return len(header).to_bytes(4, "big") + header + content


class _Runtime:
    def __init__(self, gpu: FakeGpu, logger: Any) -> None:
        self._gpu = gpu
        self._logger = logger

    def deserialize_cuda_engine(self, plan: bytes) -> "_Plan | None":
        n = int.from_bytes(plan[:4], "big")
        try:
            return _Plan(self._gpu, json.loads(plan[4 : 4 + n]), plan[4 + n :])
        except (ValueError, DecodeError):
            self._logger.log(1, "Serialization assertion failed")
            return None


class _Plan:
    device_memory_size_v2 = 256

    def __init__(self, gpu: FakeGpu, profile: dict[str, Any], content: bytes) -> None:
        self.gpu = gpu
        self.profile = profile
        self.model = onnx.load_from_string(content)
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        graph = self.model.graph
        self.values = {value.name: value for value in (*graph.input, *graph.output)}
        self.num_io_tensors = len(self.values)

    def get_tensor_name(self, i: int) -> str:
        return str(list(self.values)[i])

    def get_tensor_dtype(self, name: str) -> str:
        names = {1: "FLOAT", 7: "INT64", 6: "INT32", 10: "HALF"}
        return f"DataType.{names[self.values[name].type.tensor_type.elem_type]}"

    def get_tensor_profile_shape(self, name: str, index: int) -> Sequence[Sequence[int]]:
        assert name in self.profile, f"the profile says nothing of {name}"
        found: Sequence[Sequence[int]] = self.profile[name]
        return found

    def create_execution_context(self, strategy: Any) -> "_Context":
        return _Context(self)


class _Context:
    def __init__(self, plan: _Plan) -> None:
        self._plan = plan
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}
        self._outputs: dict[str, tuple[int, ...]] = {}

    def set_device_memory(self, memory: int, size: int) -> None:
        assert len(self._plan.gpu.at(memory)) >= size

    def set_input_shape(self, name: str, shape: Sequence[int]) -> bool:
        fixed = [dim.dim_value for dim in self._plan.values[name].type.tensor_type.shape.dim]
        least, _, most = self._plan.profile.get(name, [fixed] * 3)
        self._shapes[name] = tuple(shape)
        return all(low <= n <= high for low, n, high in zip(least, shape, most, strict=True))

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        if name in self._shapes:
            return self._shapes[name]
        if not self._outputs:
            zeros = {n: np.ones(s, self._dtype(n)) for n, s in self._shapes.items()}
            found = self._plan.session.run(None, zeros)
            names = [output.name for output in self._plan.session.get_outputs()]
            self._outputs = {n: array.shape for n, array in zip(names, found, strict=True)}
        return self._outputs[name]

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self._addresses[name] = memory
        return True

    def execute_async_v3(self, handle: int) -> bool:
        if set(self._addresses) != set(self._plan.values):
            return False
        self._plan.gpu.streams[handle].queue.append(self._compute)
        return True

    def _compute(self) -> None:
        feeds = {name: self._array(name, shape) for name, shape in self._shapes.items()}
        names = [output.name for output in self._plan.session.get_outputs()]
        for name, array in zip(names, self._plan.session.run(names, feeds), strict=True):
            np.copyto(self._array(name, array.shape), array)

    def _array(self, name: str, shape: tuple[int, ...]) -> Any:
        dtype = np.dtype(self._dtype(name))
        n = int(np.prod(shape)) * dtype.itemsize
        return self._plan.gpu.at(self._addresses[name])[:n].view(dtype).reshape(shape)

    def _dtype(self, name: str) -> Any:
        return onnx.helper.tensor_dtype_to_np_dtype(self._plan.values[name].type.tensor_type.elem_type)


def fake_platform(gpu: FakeGpu | None = None, *arguments: str) -> Platform:
    """The fake as a platform; its builder's process gets `arguments` before the request."""
    gpu = gpu or FakeGpu()
    command = (sys.executable, "-m", "tests.fakegpu", *arguments)
    return Platform("tensorrt", cast(Bindings, FakeTensorRT(gpu)), gpu, command)


def main(arguments: Sequence[str]) -> int:
    """The builder's process: as it is, or spoilt in the way that the first argument says."""
    *way, request = arguments
    match way:
        case []:
            return builder.main([request], lambda: ("tensorrt", cast(Bindings, FakeTensorRT())))
        case ["crash"]:
            print("Segmentation fault, so to speak", file=sys.stderr)
            return 139
        case ["hang"]:
            print(json.dumps({"step": "hanging"}), flush=True)
            signal.pause()
        case ["wrong"]:
            return builder.main([request], lambda: ("tensorrt", cast(Bindings, _Wrong())))
    raise ValueError(way)


class _Wrong(FakeTensorRT):
    """Builds plans that compute something else: every weight doubled."""

    def OnnxParser(self, network: _Network, logger: Any) -> _Parser:
        class Parser(_Parser):
            def parse(self, content: bytes) -> bool:
                read = super().parse(content)
                for tensor in network.model.graph.initializer:
                    if tensor.data_type == onnx.TensorProto.FLOAT:
                        values = onnx.numpy_helper.to_array(tensor) * 2
                        tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
                return read

        return Parser(network)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
