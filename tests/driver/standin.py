"""The stand-in of the driver, from inside the process that runs on it; and engines on it."""

import ctypes
from enum import IntEnum

import numpy as np

from engines import Engine, builder
from engines.placement import Deployment
from engines.trt import TrtEngine
from tests.engine_contract import WEIGHT

OUT_OF_MEMORY, ILLEGAL_ADDRESS, CAPTURE_INVALIDATED = 2, 700, 901
"""``CUresult`` of cuda.h."""
ONES = {"x": np.ones((1, 1, 4), np.float32)}


class Kind(IntEnum):
    """What the stand-in counts, in its own order."""

    DEVICE = 0
    PINNED = 1
    STREAM = 2
    GRAPH = 3
    EXECUTABLE = 4


class StandIn:
    """The library that pycuda has loaded, by the functions that only ours has."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL("libcuda.so.1")

    def alive(self) -> dict[Kind, int]:
        found = {kind: int(self._library.standin_alive(int(kind))) for kind in Kind}
        return {kind: n for kind, n in found.items() if n}

    @property
    def depth(self) -> int:
        """Contexts on this thread's stack."""
        return int(self._library.standin_depth())

    def fail(self, function: str, code: int, *, after: int = 0) -> None:
        """What `function` gives after so many calls. Of memory pycuda asks twice, with a garbage collection between."""
        self._library.standin_fail(function.encode(), after, 2 if function == "cuMemAlloc" else 1, code)

    @property
    def pending(self) -> int:
        """What was to fail and was not called."""
        return int(self._library.standin_pending())

    def forget(self) -> None:
        """Everything that is alive."""
        self._library.standin_forget()

    def broken(self, code: int) -> None:
        self._library.standin_break(code)


def built(deployment: Deployment, **options: int | bool) -> TrtEngine:
    """Opened, from a plan that this process builds; not checked, so that nothing has run."""
    stored = deployment.cache.load(deployment.key) or builder.make(
        deployment.model, deployment.key, deployment.platform.bindings, calibration=None, step=lambda step: None
    )
    deployment.cache.store(stored)
    return TrtEngine(
        stored.plan,
        name="linear",
        platform=deployment.platform,
        inputs=stored.inputs,
        outputs=stored.outputs,
        **options,  # type: ignore[arg-type]
    )


def gives(engine: Engine, times: int = 3) -> None:
    """The right answers, first enqueued, then as a graph."""
    for n in range(times):
        x = np.full((1, 2, 4), float(n), np.float32)
        np.testing.assert_allclose(engine.infer({"x": x})["y"], x @ WEIGHT, rtol=1e-6)
