"""What TensorRT-RTX has to be told, and TensorRT does not know.

It compiles kernels where they run: general ones for all lengths of the profile when a context is made, and by default
better ones for each set of lengths that comes, in the background, which take over when they are there. So what a plan
computes would change while it runs, and a graph recorded before would keep the slow kernels for good.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, cast

from engines import Tensor
from engines.bindings import Bindings, Config, Plan

FLAVOUR = "tensorrt_rtx"


class RuntimeConfig(Protocol):
    """``IRuntimeConfig``."""

    dynamic_shapes_kernel_specialization_strategy: Any

    def set_execution_context_allocation_strategy(self, strategy: Any) -> None: ...


class RtxPlan(Plan, Protocol):
    """``ICudaEngine``."""

    def create_runtime_config(self) -> RuntimeConfig: ...


class RtxBindings(Bindings, Protocol):
    """The module."""

    BuilderFlag: Any
    DynamicShapesKernelSpecializationStrategy: Any


CLASSES: dict[type[Any], str] = {RuntimeConfig: "IRuntimeConfig", RtxPlan: "ICudaEngine"}
"""What each protocol is called in the bindings."""


def runtime_config(plan: Plan, bindings: Bindings, inputs: Sequence[Tensor]) -> RuntimeConfig:
    """How contexts of a plan with these inputs are made: in memory of ours, with kernels that stay what they are.

    A batch has few lengths, each of which is worth its own kernels at once; of speech and text every window has another
    length, for which the general ones do.
    """
    rtx = cast(RtxBindings, bindings)
    kernels = rtx.DynamicShapesKernelSpecializationStrategy
    free = {n for tensor in inputs for n in tensor.shape if isinstance(n, str)}
    config = cast(RtxPlan, plan).create_runtime_config()
    config.set_execution_context_allocation_strategy(rtx.ExecutionContextAllocationStrategy.USER_MANAGED)
    config.dynamic_shapes_kernel_specialization_strategy = kernels.EAGER if free <= {"batch"} else kernels.NONE
    return config


def require_user_allocation(config: Config, bindings: Bindings) -> None:
    """Have a plan built that allocates nothing while it runs, without which none can be recorded as a graph."""
    config.set_flag(cast(RtxBindings, bindings).BuilderFlag.REQUIRE_USER_ALLOCATION)
