"""What an engine needs of a GPU, and whether this machine has one, asked of the driver alone."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from typing import Protocol

from agent.types import U8
from engines import EngineError

_COMPUTE_MAJOR, _COMPUTE_MINOR = 75, 76
"""``CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*`` of cuda.h."""


@dataclass(frozen=True, slots=True)
class GpuInfo:
    """One CUDA device."""

    index: int
    name: str
    sm: str
    """Compute capability, such as 8.7."""

    def __str__(self) -> str:
        return f"{self.name} (SM {self.sm})"


class Memory(Protocol):
    """Bytes on the device."""

    device: int
    """Their address."""

    def close(self) -> None: ...


class Buffer(Memory, Protocol):
    """The same bytes twice: pinned on the host, and on the device."""

    host: U8
    """(n,)."""


class Graph(Protocol):
    """What a stream recorded."""

    def launch(self) -> None: ...

    def close(self) -> None: ...


class Stream(Protocol):
    """One queue of work on the device. Every method but `synchronize` returns before the work is done."""

    handle: int

    def upload(self, buffer: Buffer, n: int) -> None:
        """Copy the first `n` bytes to the device."""

    def download(self, buffer: Buffer, n: int) -> None:
        """Copy the first `n` bytes from the device."""

    def synchronize(self) -> None:
        """Wait for this stream alone."""

    def capture(self, work: Callable[[], None]) -> Graph | None:
        """What `work` puts into the stream, as a graph; it is recorded, not done. None where that cannot be had."""

    def close(self) -> None: ...


class Gpu(Protocol):
    """One device. Buffers and streams are made and used inside `current`, from any thread."""

    @property
    def info(self) -> GpuInfo: ...

    def current(self) -> AbstractContextManager[None]: ...

    def memory(self, n: int) -> Memory: ...

    def buffer(self, n: int) -> Buffer: ...

    def stream(self) -> Stream: ...

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        """What its calls raise."""


def find_gpu(index: int = 0) -> GpuInfo:
    """The device of that number, asked of the driver alone. Raises `EngineError` that says why there is none."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        raise EngineError("no NVIDIA driver on this machine (libcuda.so.1 is not there)") from None
    if code := driver.cuInit(0):
        raise EngineError(f"the NVIDIA driver has no device to offer (cuInit gives CUDA error {code})")
    count = ctypes.c_int()
    if driver.cuDeviceGetCount(ctypes.byref(count)) or count.value <= index:
        raise EngineError(f"the NVIDIA driver knows {count.value} devices; number {index} was wanted")
    device, name = ctypes.c_int(), ctypes.create_string_buffer(256)
    driver.cuDeviceGet(ctypes.byref(device), index)
    driver.cuDeviceGetName(name, len(name), device)
    parts = []
    for attribute in (_COMPUTE_MAJOR, _COMPUTE_MINOR):
        value = ctypes.c_int()
        driver.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
        parts.append(str(value.value))
    return GpuInfo(index, name.value.decode(errors="replace"), ".".join(parts))


@cache
def missing_gpu() -> str | None:
    """Why this machine has no GPU to offer; None where it has one. Asked of the driver once."""
    try:
        find_gpu()
    except EngineError as error:
        return str(error)
    return None
