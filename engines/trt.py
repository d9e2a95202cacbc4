"""TensorRT: a plan that was built for this GPU (`engines.builder`), run with pycuda."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from engines import Array, EngineError, Tensor, check_feeds, rtx
from engines.bindings import Context, Plan, Runtime, shared_logger
from engines.gpu import Buffer, Graph, Memory, Stream
from engines.platforms import Platform

log = logging.getLogger(__name__)

SHAPES = 8
"""Sets of input shapes that stay prepared, each with its context and graph; the one not used for longest goes."""

Shape = tuple[int, ...]

_DTYPES = {
    "FLOAT": np.float32,
    "HALF": np.float16,
    "INT64": np.int64,
    "INT32": np.int32,
    "INT8": np.int8,
    "UINT8": np.uint8,
    "BOOL": np.bool_,
}


@dataclass(slots=True)
class _Prepared:
    """What was made for one set of input shapes."""

    context: Context
    outputs: tuple[Shape, ...]
    """In the order of the engine's outputs."""
    runs: int = 0
    graph: Graph | None = None


class TrtEngine:
    """One plan with memory, a stream and graphs of its own.

    All memory is made once, for the greatest shapes of the plan's profile. A set of input shapes gets a context when it
    first comes, in which it is enqueued; TensorRT has then set itself up, and the second time it is captured as a
    graph, which is all that later calls launch. The contexts share their working memory, since one stream runs them in
    turn. A call copies in, runs, copies out, and waits for its own stream. A batch beyond the profile goes in several.
    Where a graph cannot be recorded, every call is enqueued anew, which is logged once.
    """

    backend = "tensorrt"

    def __init__(
        self,
        plan: bytes,
        *,
        name: str,
        platform: Platform,
        inputs: Sequence[Tensor],
        outputs: Sequence[Tensor],
        graphs: bool = True,
        shapes: int = SHAPES,
    ) -> None:
        """`inputs` and `outputs` are the model's, which the plan must have too. Raises `EngineError`."""
        self.inputs, self.outputs = tuple(inputs), tuple(outputs)
        self._name = name
        self._platform = platform
        self._gpu = platform.gpu
        self._wants_graphs = graphs
        self._shapes = shapes
        self._prepared: OrderedDict[tuple[Shape, ...], _Prepared] = OrderedDict()
        logger, self._complaints = shared_logger(platform.bindings)
        try:
            with self._gpu.current(), ExitStack() as undo:
                self._runtime = self._started(logger)
                self._plan = self._read(plan)
                self._ranges = {t.name: self._range(t) for t in self.inputs}
                self._strategy = self._allocation()
                self._stream: Stream = self._gpu.stream()
                undo.callback(self._stream.close)
                self._scratch: Memory = self._gpu.memory(self._plan.device_memory_size_v2)
                undo.callback(self._scratch.close)
                self._buffers = self._allocate(undo)
                self._undo = undo.pop_all()
        except self._gpu.errors as error:
            raise EngineError(f"{name}: {platform} cannot take it in: {error}") from error

    def infer(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        check_feeds(self._name, self.inputs, feeds)
        parts = self._split(feeds)
        for part in parts:
            self._check_ranges(part)
        try:
            with self._gpu.current():
                found = [self._run(part) for part in parts]
        except self._gpu.errors as error:  # of the context too, which a device that has failed may refuse
            raise EngineError(
                f"{self._name}: {self._platform} failed on inputs of shape"
                f" { {name: list(array.shape) for name, array in feeds.items()} }: {error}{self._reason()}"
            ) from error
        if len(found) == 1:
            return found[0]
        return {tensor.name: np.concatenate([part[tensor.name] for part in found]) for tensor in self.outputs}

    def close(self) -> None:
        try:
            with self._gpu.current(), self._undo:  # which goes last, and whatever the first runs into
                self._forget()
        except self._gpu.errors as error:  # a device that has failed takes nothing back either
            raise EngineError(f"{self._name}: {self._platform} does not let go of it: {error}") from error

    @property
    def graphs(self) -> int:
        """Sets of input shapes that are launched as a graph by now."""
        return sum(prepared.graph is not None for prepared in self._prepared.values())

    def __str__(self) -> str:
        sides = (", ".join(map(str, side)) for side in (self.inputs, self.outputs))
        return f"{self._name} on {self._platform}: {' -> '.join(sides)}"

    def _started(self, logger: Any) -> Runtime:
        try:
            return self._platform.bindings.Runtime(logger)
        except TypeError as error:  # what the bindings make of no runtime at all
            raise self._refused("has no runtime to offer") from error

    def _read(self, serialized: bytes) -> Plan:
        plan = self._runtime.deserialize_cuda_engine(serialized)
        if plan is None:
            raise self._refused("cannot read its plan")
        found = {plan.get_tensor_name(i) for i in range(plan.num_io_tensors)}
        wanted = {tensor.name for tensor in (*self.inputs, *self.outputs)}
        if found != wanted:
            raise EngineError(f"{self._name}: its plan has {sorted(found)}, the model {sorted(wanted)}; build it anew")
        for tensor in (*self.inputs, *self.outputs):
            dtype = str(plan.get_tensor_dtype(tensor.name)).rpartition(".")[2]
            if _DTYPES.get(dtype) != tensor.dtype:
                raise EngineError(f"{self._name}: its plan has {dtype} for {tensor}; build it anew")
        return plan

    def _range(self, tensor: Tensor) -> list[tuple[int, int]]:
        """The least and greatest length of each axis of an input."""
        fixed = [n for n in tensor.shape if isinstance(n, int)]
        if len(fixed) == len(tensor.shape):
            return [(n, n) for n in fixed]  # of which a profile says nothing
        least, _, most = self._plan.get_tensor_profile_shape(tensor.name, 0)
        return list(zip(least, most, strict=True))

    def _allocation(self) -> Any:
        """What contexts are to be made with: the memory is ours, for all of them together."""
        bindings = self._platform.bindings
        if self._platform.flavour == rtx.FLAVOUR:
            return rtx.runtime_config(self._plan, bindings, self.inputs)
        return bindings.ExecutionContextAllocationStrategy.USER_MANAGED

    def _allocate(self, undo: ExitStack) -> dict[str, Buffer]:
        """Memory for the greatest shapes."""
        greatest = tuple(tuple(most for _, most in self._ranges[tensor.name]) for tensor in self.inputs)
        context = self._context(greatest, buffers={})
        buffers = {}
        for tensor in (*self.inputs, *self.outputs):
            size = prod(context.get_tensor_shape(tensor.name)) * tensor.dtype.itemsize
            buffers[tensor.name] = self._gpu.buffer(size)
            undo.callback(buffers[tensor.name].close)
        return buffers

    def _context(self, shapes: Sequence[Shape], *, buffers: Mapping[str, Buffer]) -> Context:
        context = self._plan.create_execution_context(self._strategy)
        if context is None:
            raise self._refused("cannot make a context for its plan")
        context.set_device_memory(self._scratch.device, self._plan.device_memory_size_v2)
        for tensor, shape in zip(self.inputs, shapes, strict=True):
            if not context.set_input_shape(tensor.name, shape):
                raise self._refused(f"does not take {list(shape)} for {tensor}")
        for name, buffer in buffers.items():
            if not context.set_tensor_address(name, buffer.device):
                raise self._refused(f"does not take an address for {name}")
        return context

    def _split(self, feeds: Mapping[str, Array]) -> list[Mapping[str, Array]]:
        """The feeds, in parts that the profile admits where the batch, the free first axis of all, is beyond it."""
        first = {tensor.shape[0] if tensor.shape else 1 for tensor in (*self.inputs, *self.outputs)}
        if len(first) > 1 or not isinstance(first.pop(), str):
            return [feeds]
        n = max(len(array) for array in feeds.values())
        most = min(self._ranges[tensor.name][0][1] for tensor in self.inputs)
        return [{name: array[i : i + most] for name, array in feeds.items()} for i in range(0, max(n, 1), most)]

    def _check_ranges(self, feeds: Mapping[str, Array]) -> None:
        for tensor in self.inputs:
            lengths = zip(tensor.shape, feeds[tensor.name].shape, self._ranges[tensor.name], strict=True)
            for axis, n, (least, most) in lengths:
                if not least <= n <= most:
                    raise EngineError(
                        f"{self._name}: its plan takes {least} to {most} along {axis} of {tensor.name}, was given {n};"
                        " change axes in its entry of models.toml and run: python launch.py models build"
                    )

    def _run(self, feeds: Mapping[str, Array]) -> dict[str, Array]:
        """One call, inside the device's context."""
        for name, array in feeds.items():
            np.copyto(_view(self._buffers[name], array.shape, array.dtype), array)
        prepared = self._prepare(tuple(feeds[tensor.name].shape for tensor in self.inputs))
        try:
            if prepared.graph is not None:
                prepared.graph.launch()
            else:
                self._enqueue(prepared)
        finally:  # what came into the stream before it failed is over, too, before its memory is touched again
            self._stream.synchronize()
        prepared.runs += 1
        return {
            tensor.name: _view(self._buffers[tensor.name], shape, tensor.dtype).copy()
            for tensor, shape in zip(self.outputs, prepared.outputs, strict=True)
        }

    def _prepare(self, shapes: tuple[Shape, ...]) -> _Prepared:
        """What there is for these shapes, with a graph from their second call on."""
        prepared = self._prepared.get(shapes)
        if prepared is None:
            if len(self._prepared) >= self._shapes:
                _release(self._prepared.popitem(last=False)[1])
            context = self._context(shapes, buffers=self._buffers)
            outputs = tuple(tuple(context.get_tensor_shape(tensor.name)) for tensor in self.outputs)
            prepared = self._prepared[shapes] = _Prepared(context, outputs)
        elif prepared.runs == 1 and self._wants_graphs:
            prepared.graph = self._recorded(prepared)
        self._prepared.move_to_end(shapes)
        return prepared

    def _recorded(self, prepared: _Prepared) -> Graph | None:
        """The graph of what is enqueued; None, and none is tried any more, where that cannot be had."""
        failures: tuple[type[Exception], ...] = (*self._gpu.errors, EngineError)
        try:
            return self._stream.capture(lambda: self._enqueue(prepared))
        except failures as error:  # what is wrong with the device, the next call finds too
            self._wants_graphs = False
            log.warning("%s: cannot be recorded as a CUDA graph, so every call is enqueued anew: %s", self._name, error)
            return None

    def _enqueue(self, prepared: _Prepared) -> None:
        for tensor in self.inputs:
            shape = prepared.context.get_tensor_shape(tensor.name)
            self._stream.upload(self._buffers[tensor.name], prod(shape) * tensor.dtype.itemsize)
        if not prepared.context.execute_async_v3(self._stream.handle):
            raise self._refused("could not be enqueued")
        for tensor, shape in zip(self.outputs, prepared.outputs, strict=True):
            self._stream.download(self._buffers[tensor.name], prod(shape) * tensor.dtype.itemsize)

    def _forget(self) -> None:
        """Let go of contexts, plan and runtime, in the order in which they hang on one another."""
        self._buffers = {}  # so that a call that comes too late finds none, instead of writing into freed memory
        while self._prepared:
            _release(self._prepared.popitem()[1])
        self.__dict__.pop("_strategy", None)
        self.__dict__.pop("_plan", None)
        self.__dict__.pop("_runtime", None)

    def _refused(self, what: str) -> EngineError:
        return EngineError(f"{self._name}: {self._platform} {what}{self._reason()}")

    def _reason(self) -> str:
        """What TensorRT said to this thread since it was last asked, as the end of a sentence."""
        said = self._complaints.taken()[-3:]
        return f" ({'; '.join(said)})" if said else ""


def _release(prepared: _Prepared) -> None:
    if prepared.graph is not None:
        prepared.graph.close()


def _view(buffer: Buffer, shape: Shape, dtype: np.dtype[np.generic]) -> Array:
    """The beginning of a buffer's host side as an array."""
    view: Array = buffer.host[: prod(shape) * dtype.itemsize].view(dtype)
    return view.reshape(shape)
