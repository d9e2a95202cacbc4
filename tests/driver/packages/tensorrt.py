"""A ``tensorrt`` whose kernels are ONNX Runtime's, as in `tests.fakegpu`, on the memory and streams of a driver."""

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np

from tests.fakegpu import VERSION, FakeTensorRT

_HostFunction = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class _Stream:
    """What is put into it runs when its turn has come."""

    def __init__(self, driver: "_Driver", handle: int) -> None:
        self._driver = driver
        self._handle = handle
        self.queue = self

    def append(self, work: Callable[[], None]) -> None:
        context = work.__self__  # type: ignore[attr-defined]  # the bound method of one
        call = context.__dict__.setdefault("_call", _HostFunction(lambda _: work()))  # lives as long as the context
        self._driver.did(self._driver.library.cuLaunchHostFunc(ctypes.c_void_p(self._handle), call, None))


class _Streams:
    def __init__(self, driver: "_Driver") -> None:
        self._driver = driver

    def __getitem__(self, handle: int) -> _Stream:
        return _Stream(self._driver, handle)


class _Driver:
    """Device memory and streams by their addresses."""

    def __init__(self) -> None:
        self.library = ctypes.CDLL("libcuda.so.1")
        self.streams = _Streams(self)

    def at(self, address: int) -> "np.ndarray[Any, np.dtype[np.uint8]]":
        base, n = ctypes.c_uint64(), ctypes.c_size_t()
        found = self.library.cuMemGetAddressRange_v2(ctypes.byref(base), ctypes.byref(n), ctypes.c_uint64(address))
        self.did(found)
        assert base.value == address
        return np.ctypeslib.as_array((ctypes.c_uint8 * n.value).from_address(address))

    def did(self, code: int) -> None:
        assert code == 0, f"the driver gives {code}"


_module = FakeTensorRT(_Driver())  # type: ignore[arg-type]
__version__ = VERSION
ILogger = _module.ILogger
NetworkDefinitionCreationFlag = _module.NetworkDefinitionCreationFlag
MemoryPoolType = _module.MemoryPoolType
ExecutionContextAllocationStrategy = _module.ExecutionContextAllocationStrategy
Builder = _module.Builder
OnnxParser = _module.OnnxParser
Runtime = _module.Runtime
