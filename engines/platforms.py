"""TensorRT, and the GPU on which its plans run: what this machine has of them."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cache

from engines.bindings import Bindings, load_bindings
from engines.cuda import PyCudaGpu
from engines.gpu import Gpu, GpuInfo, find_gpu


@dataclass(frozen=True, slots=True)
class Platform:
    """TensorRT, and the GPU on which its plans run."""

    flavour: str
    """``tensorrt`` or ``tensorrt_rtx``."""
    bindings: Bindings
    gpu: Gpu
    builder: tuple[str, ...] = (sys.executable, "-m", "engines.builder")
    """The command that builds a plan in a process of its own."""

    @property
    def version(self) -> str:
        return self.bindings.__version__

    @property
    def info(self) -> GpuInfo:
        return self.gpu.info

    def __str__(self) -> str:
        return f"{self.flavour} {self.version} on {self.info}"


@cache
def find_platform() -> Platform:
    """What this machine has; the device is looked for before anything of TensorRT is loaded. Raises `EngineError`."""
    info = find_gpu()
    flavour, bindings = load_bindings()
    return Platform(flavour, bindings, PyCudaGpu(info))
