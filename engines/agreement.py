"""How far the outputs of a network in another precision, or on another back end, may be from ONNX Runtime's."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from engines import Array, EngineError

TOLERANCE: Mapping[str, float] = {"fp32": 1e-2, "fp16": 5e-2, "int8": 0.25}
"""Greatest error of a plan's output on the stored input, against ONNX Runtime in 32 bits: the norm of the difference
over that of the output. In fp32 GPUs multiply with 10 bits of mantissa (TF32)."""


def agree(found: Mapping[str, Array], expected: Mapping[str, Array], *, precision: str, name: str) -> None:
    """Raise `EngineError` where an output is farther from what is expected than this precision explains."""
    for output, wanted in expected.items():
        error = relative_error(found[output], wanted)
        if not error <= TOLERANCE[precision]:
            raise EngineError(
                f"{name}: in {precision} its {output} is off by {error:.3g} of what ONNX Runtime gives for the stored"
                f" input, {TOLERANCE[precision]:g} is allowed; take a wider precision, or the back end onnxruntime"
            )


def relative_error(found: Array, wanted: Array) -> float:
    """Norm of the difference over the norm of `wanted`; not finite where `found` is not."""
    wide = wanted.astype(np.float64)
    with np.errstate(invalid="ignore"):
        return float(np.linalg.norm(found.astype(np.float64) - wide) / max(float(np.linalg.norm(wide)), 1e-12))
