"""What the converters share: an ONNX graph under construction, and the padding rule of TensorFlow.

Everything is NCHW and opset 17, with explicit pads, because that is what TensorRT takes without rewriting.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from google.protobuf.message import Error as ProtobufError
from onnx import TensorProto, helper, numpy_helper

from engines.lock import ModelError

OPSET = 17
IR_VERSION = 8
"""The IR that opset 17 came with: readers older than the onnx package here still open the file."""
BATCH = "batch"
"""Name of the free first axis of every input and output."""


MAX_NBYTES = 1 << 30
"""Bytes of constants that a graph may hold; one protobuf message, which a model is, ends at twice that."""


class ConversionError(ModelError):
    """A model file cannot be converted. The message names the file or operator, and what in it was not understood."""


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """What a damaged file does to the code that reads it is a `ConversionError`, which names the file.

    A file that was cut short or overwritten says something else at any place, so that every look into it may fail, and
    each in a way of its own; the first error stays attached as the cause.
    """
    try:
        yield
    except (
        *(ArithmeticError, AttributeError, LookupError, MemoryError, OSError, RuntimeError, TypeError, ValueError),
        *(struct.error, ProtobufError, onnx.checker.ValidationError, onnx.shape_inference.InferenceError),
    ) as error:
        raise ConversionError(
            f"{path}: damaged, or not what its converter reads ({type(error).__name__}: {error}); fetch it again"
        ) from error


class Graph:
    """Nodes, constants and ends of an ONNX graph, in the order in which they were added.

    Tensors are named by the caller, so that the same source gives the same bytes.
    """

    def __init__(self) -> None:
        self._nodes: list[Any] = []
        self._constants: dict[str, Any] = {}
        self._nbytes = 0
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []

    def node(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Add a node with one output; returns the output's name, which is also the node's."""
        self._nodes.append(helper.make_node(kind, list(inputs), [output], name=output, **attributes))
        return output

    def nodes(self, kind: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> Sequence[str]:
        """Add a node with several outputs, named after the first; returns their names."""
        self._nodes.append(helper.make_node(kind, list(inputs), list(outputs), name=outputs[0], **attributes))
        return outputs

    def constant(self, name: str, value: npt.NDArray[Any]) -> str:
        """Add a constant, once per name; returns the name. Raises `ConversionError` above `MAX_NBYTES` in all."""
        if name not in self._constants:
            self._nbytes += value.nbytes
            if self._nbytes > MAX_NBYTES:
                raise ConversionError(f"{name}: with it the constants take {self._nbytes} bytes, above {MAX_NBYTES}")
            self._constants[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def input(self, name: str, shape: Sequence[int | str], dtype: int = TensorProto.FLOAT) -> None:
        """Declare an input; `shape` is without the batch axis, and a string in it names an axis of free length."""
        self._inputs.append(helper.make_tensor_value_info(name, dtype, [BATCH, *shape]))

    def output(self, name: str, shape: Sequence[int]) -> None:
        """Declare a float32 output; `shape` is without the batch axis."""
        self._outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [BATCH, *shape]))

    def save(self, path: Path, *, name: str) -> None:
        """Check the model and write it. Raises `ConversionError` where the checker finds a fault."""
        graph = helper.make_graph(self._nodes, name, self._inputs, self._outputs, list(self._constants.values()))
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="attune")
        model.ir_version = IR_VERSION
        try:
            onnx.checker.check_model(model, full_check=True)
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
            raise ConversionError(f"{name}: the converted graph is not valid ONNX: {error}") from error
        path.write_bytes(model.SerializeToString(deterministic=True))


def same_pads(sizes: Sequence[int], kernel: Sequence[int], strides: Sequence[int]) -> list[int]:
    """TensorFlow's "same" as ONNX pads (begins, then ends) for spatial `sizes`; an odd pixel goes to the end.

    So a 3×3 kernel with stride 2 on an even size pads at the bottom and on the right only.
    """
    total = [max((-(-n // s) - 1) * s + k - n, 0) for n, k, s in zip(sizes, kernel, strides, strict=True)]
    return [t // 2 for t in total] + [t - t // 2 for t in total]
