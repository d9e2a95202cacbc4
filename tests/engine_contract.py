"""What every engine does, whatever is behind it; and small models to show it with."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from engines import Engine, EngineError

WEIGHT = np.arange(12, dtype=np.float32).reshape(4, 3) / 10


def linear(path: Path, weight: np.ndarray = WEIGHT) -> Path:
    """x float32[batch, length, 4] -> y = x @ weight, float32[batch, length, 3]."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", "length", 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", "length", 3])
    node = helper.make_node("MatMul", ["x", "weight"], ["y"], name="product")
    graph = helper.make_graph([node], "linear", [x], [y], [numpy_helper.from_array(weight, "weight")])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def gives_what_numpy_gives(engine: Engine) -> None:
    for batch, length in ((1, 1), (3, 2), (2, 5), (3, 2)):
        x = np.random.default_rng(batch).random((batch, length, 4), np.float32)
        np.testing.assert_allclose(engine.infer({"x": x})["y"], x @ WEIGHT, rtol=1e-2)


def results_are_the_callers_own(engine: Engine) -> None:
    ones = np.ones((1, 1, 4), np.float32)
    first = engine.infer({"x": ones})["y"]
    before = first.copy()
    engine.infer({"x": 2 * ones})
    np.testing.assert_array_equal(first, before)
    first[:] = 7
    np.testing.assert_allclose(engine.infer({"x": ones})["y"], before, rtol=1e-6)


def takes_arrays_that_are_not_contiguous(engine: Engine) -> None:
    x = np.random.default_rng(0).random((4, 3, 2), np.float32).T
    np.testing.assert_allclose(engine.infer({"x": x})["y"], x @ WEIGHT, rtol=1e-2)


def names_what_does_not_fit(engine: Engine) -> None:
    with pytest.raises(EngineError, match=r"takes the inputs \['x'\], was given \['z'\]"):
        engine.infer({"z": np.ones((1, 1, 4), np.float32)})
    with pytest.raises(EngineError, match=r"takes x float32\[batch, length, 4\], was given float64\[1, 1, 4\]"):
        engine.infer({"x": np.ones((1, 1, 4))})
    with pytest.raises(EngineError, match=r"was given float32\[1, 1, 5\]"):
        engine.infer({"x": np.ones((1, 1, 5), np.float32)})
    gives_what_numpy_gives(engine)


def says_what_it_is(engine: Engine) -> None:
    assert engine.backend in str(engine)
    assert str(engine).endswith("x float32[batch, length, 4] -> y float32[batch, length, 3]")
    assert [tensor.name for tensor in engine.inputs] == ["x"]
    assert [tensor.name for tensor in engine.outputs] == ["y"]


CONTRACT: tuple[Callable[[Engine], None], ...] = (
    gives_what_numpy_gives,
    results_are_the_callers_own,
    takes_arrays_that_are_not_contiguous,
    names_what_does_not_fit,
    says_what_it_is,
)
