"""The GPU by pycuda, on the primary context: memory that both sides see, one stream, graphs.

The primary context is the one that TensorRT, torch and everything else in the process share; pycuda's ``autoinit``
would make another. Nothing here waits for the whole device.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any
from weakref import finalize

import numpy as np

from agent.types import U8
from engines import EngineError
from engines.gpu import Buffer, GpuInfo, Graph, Memory, Stream

log = logging.getLogger(__name__)


class PyCudaGpu:
    """A device by pycuda, with graphs by cuda-bindings where that is installed."""

    def __init__(self, info: GpuInfo) -> None:
        """Raises `EngineError` where pycuda is missing, or the device does not let itself be used."""
        try:
            import pycuda.driver as driver
        except ImportError as error:
            raise EngineError(f"pycuda cannot be loaded: {error}; install the extra gpu (docs/tensorrt.md)") from error
        self.info = info
        self.errors: tuple[type[Exception], ...] = (driver.Error, CudaError)
        self._driver = driver
        try:
            driver.init()
            self._context = driver.Device(info.index).retain_primary_context()
        except driver.Error as error:
            raise EngineError(f"{info} cannot be used: {error}") from error
        # Left to itself pycuda ends this context as if it were one of its own making (cuCtxDetach).
        self._detach = finalize(self, self._context.detach)
        self._bindings = _graph_bindings()

    @contextmanager
    def current(self) -> Iterator[None]:
        if not self._detach.alive:
            raise CudaError(f"the context of {self.info} was given up, because it could not be left")
        self._context.push()
        try:
            yield
        finally:
            self._pop()

    def _pop(self) -> None:
        try:
            self._driver.Context.pop()
        except self._driver.Error:
            self._detach()
            self._driver.Context.get_current()  # off this thread's stack in pycuda, which would end the process with it
            raise

    def memory(self, n: int) -> Memory:
        return _Memory(self._driver, n)

    def buffer(self, n: int) -> Buffer:
        return _Buffer(self._driver, n)

    def stream(self) -> Stream:
        return _Stream(self._driver, self._bindings)


class CudaError(Exception):
    """A call of cuda-bindings failed."""


class _Memory:
    def __init__(self, driver: Any, n: int) -> None:
        self._memory = driver.mem_alloc(max(n, 1))
        self.device = int(self._memory)

    def close(self) -> None:
        self._memory.free()


class _Buffer(_Memory):
    def __init__(self, driver: Any, n: int) -> None:
        super().__init__(driver, n)
        try:
            self.host: U8 = driver.pagelocked_empty(max(n, 1), np.uint8)
        except driver.Error:
            super().close()  # here, inside the device's context, which another thread's garbage collector is not
            raise

    def close(self) -> None:
        super().close()
        self.host.base.free()  # type: ignore[union-attr]  # pycuda's PagelockedHostAllocation


class _Stream:
    NON_BLOCKING = 1
    """``CU_STREAM_NON_BLOCKING``: it does not wait for the default stream, nor that one for it."""

    def __init__(self, driver: Any, bindings: ModuleType | None) -> None:
        self._driver = driver
        self._bindings = bindings
        self._stream = driver.Stream(self.NON_BLOCKING)
        self.handle: int = self._stream.handle

    def upload(self, buffer: Buffer, n: int) -> None:
        self._driver.memcpy_htod_async(buffer.device, buffer.host[:n], self._stream)

    def download(self, buffer: Buffer, n: int) -> None:
        self._driver.memcpy_dtoh_async(buffer.host[:n], buffer.device, self._stream)

    def synchronize(self) -> None:
        self._stream.synchronize()

    def capture(self, work: Callable[[], None]) -> Graph | None:
        cuda = self._bindings
        if cuda is None:
            return None
        mode = cuda.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        _check(cuda, cuda.cuStreamBeginCapture(self.handle, mode))
        try:
            work()
        except BaseException:
            _, graph = cuda.cuStreamEndCapture(self.handle)  # whose complaint would hide the first
            if graph is not None:
                cuda.cuGraphDestroy(graph)
            raise
        graph = _check(cuda, cuda.cuStreamEndCapture(self.handle))
        try:
            return _Graph(cuda, _check(cuda, cuda.cuGraphInstantiate(graph, 0)), self.handle)
        finally:
            cuda.cuGraphDestroy(graph)

    def close(self) -> None:
        try:
            self._stream.synchronize()
        finally:
            del self._stream  # destroyed here, inside the device's context, or never


class _Graph:
    def __init__(self, bindings: ModuleType, executable: Any, stream: int) -> None:
        self._bindings = bindings
        self._executable = executable
        self._stream = stream

    def launch(self) -> None:
        _check(self._bindings, self._bindings.cuGraphLaunch(self._executable, self._stream))

    def close(self) -> None:
        _check(self._bindings, self._bindings.cuGraphExecDestroy(self._executable))


def _graph_bindings() -> ModuleType | None:
    """Of the driver, not of the CUDA runtime: pycuda is on the driver, too, and a runtime would want one of its age."""
    try:
        from cuda.bindings import driver
    except ImportError as error:
        log.info("cuda-bindings cannot be loaded (%s): every call is enqueued anew instead of as a CUDA graph", error)
        return None
    found: ModuleType = driver
    return found


def _check(cuda: ModuleType, result: tuple[Any, ...]) -> Any:
    """What a call of cuda-bindings gives behind its status. Raises `CudaError`."""
    status, *values = result
    if int(status):
        _, text = cuda.cuGetErrorString(status)
        raise CudaError(f"{status.name}: {text.decode()}" if text else f"CUDA error {int(status)}")
    return values[0] if values else None
