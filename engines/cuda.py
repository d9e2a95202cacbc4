"""The GPU by pycuda, on the primary context: memory that both sides see, one stream, graphs.

The primary context is the one that TensorRT, torch and everything else in the process share; pycuda's ``autoinit``
would make another. Nothing here waits for the whole device.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import ModuleType
from typing import Any

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
        self._runtime = _graph_runtime()

    @contextmanager
    def current(self) -> Iterator[None]:
        self._context.push()
        try:
            yield
        finally:
            self._driver.Context.pop()

    def memory(self, n: int) -> Memory:
        return _Memory(self._driver, n)

    def buffer(self, n: int) -> Buffer:
        return _Buffer(self._driver, n)

    def stream(self) -> Stream:
        return _Stream(self._driver, self._runtime)


class CudaError(Exception):
    """A call of the CUDA runtime failed."""


class _Memory:
    def __init__(self, driver: Any, n: int) -> None:
        self._memory = driver.mem_alloc(max(n, 1))
        self.device = int(self._memory)

    def close(self) -> None:
        self._memory.free()


class _Buffer(_Memory):
    def __init__(self, driver: Any, n: int) -> None:
        super().__init__(driver, n)
        self.host: U8 = driver.pagelocked_empty(max(n, 1), np.uint8)

    def close(self) -> None:
        super().close()
        self.host.base.free()  # type: ignore[union-attr]  # pycuda's PagelockedHostAllocation


class _Stream:
    NON_BLOCKING = 1
    """``CU_STREAM_NON_BLOCKING``: it does not wait for the default stream, nor that one for it."""

    def __init__(self, driver: Any, runtime: ModuleType | None) -> None:
        self._driver = driver
        self._runtime = runtime
        self._stream = driver.Stream(self.NON_BLOCKING)
        self.handle: int = self._stream.handle

    def upload(self, buffer: Buffer, n: int) -> None:
        self._driver.memcpy_htod_async(buffer.device, buffer.host[:n], self._stream)

    def download(self, buffer: Buffer, n: int) -> None:
        self._driver.memcpy_dtoh_async(buffer.host[:n], buffer.device, self._stream)

    def synchronize(self) -> None:
        self._stream.synchronize()

    def capture(self, work: Callable[[], None]) -> Graph | None:
        runtime = self._runtime
        if runtime is None:
            return None
        mode = runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        _check(runtime.cudaStreamBeginCapture(self.handle, mode))
        try:
            work()
        except Exception:
            with suppress(CudaError):
                _check(runtime.cudaStreamEndCapture(self.handle))
            raise
        graph = _check(runtime.cudaStreamEndCapture(self.handle))
        try:
            return _Graph(runtime, _check(runtime.cudaGraphInstantiate(graph, 0)), self.handle)
        finally:
            _check(runtime.cudaGraphDestroy(graph))

    def close(self) -> None:
        try:
            self._stream.synchronize()
        finally:
            del self._stream  # destroyed here, inside the device's context, or never


class _Graph:
    def __init__(self, runtime: ModuleType, executable: Any, stream: int) -> None:
        self._runtime = runtime
        self._executable = executable
        self._stream = stream

    def launch(self) -> None:
        _check(self._runtime.cudaGraphLaunch(self._executable, self._stream))

    def close(self) -> None:
        _check(self._runtime.cudaGraphExecDestroy(self._executable))


def _graph_runtime() -> ModuleType | None:
    try:
        from cuda.bindings import runtime
    except ImportError as error:
        log.info("cuda-bindings cannot be loaded (%s): every call is enqueued anew instead of as a CUDA graph", error)
        return None
    found: ModuleType = runtime
    return found


def _check(result: tuple[Any, ...]) -> Any:
    """What a call of cuda-bindings gives behind its status. Raises `CudaError`."""
    status, *values = result
    if int(status):
        raise CudaError(str(status))
    return values[0] if values else None
