"""TFLite flatbuffers to ONNX: the convolutional operators that MediaPipe's face detectors are made of.

Inputs stay NHWC, as the file has them, and become NCHW by one transpose; outputs keep the file's shapes and names.
In between every tensor of rank 4 is NCHW, so that the only other transposes stand before a reshape that leaves the
picture. fp16 weights behind DEQUANTIZE are folded to fp32. What the file fixes to a batch of 1 is free: ``batch``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tflite

from engines.convert.graph import ConversionError, Graph, reading, same_pads

Array = npt.NDArray[Any]

_DTYPES = {
    tflite.TensorType.FLOAT32: np.float32,
    tflite.TensorType.FLOAT16: np.float16,
    tflite.TensorType.INT32: np.int32,
    tflite.TensorType.INT64: np.int64,
}
_NHWC_TO_NCHW = (0, 3, 1, 2)
_NCHW_TO_NHWC = (0, 2, 3, 1)


def convert(sources: Sequence[Path], destination: Path, *, options: Mapping[str, object]) -> None:
    """Convert the one file of `sources`; takes no options.

    Raises `ConversionError`, which names the operator and its output where one is not known here.
    """
    if len(sources) != 1 or options:
        raise ConversionError(f"tflite: takes one file and no options, was given {len(sources)} and {dict(options)}")
    source = sources[0]
    data = source.read_bytes()
    if data[4:8] != b"TFL3":
        raise ConversionError(f"{source.name}: not a TFLite file: it has {data[4:8]!r} where one has b'TFL3'")
    with reading(source):
        model = tflite.Model.GetRootAs(data, 0)
        if model.SubgraphsLength() != 1:
            raise ConversionError(
                f"{source.name}: has {model.SubgraphsLength()} subgraphs; one is known how to convert"
            )
        _Conversion(model).run().save(destination, name=source.stem)


class _Operator:
    """One operator of the file: its kind, its tensors and its options."""

    def __init__(self, model: Any, operator: Any) -> None:
        code = model.OperatorCodes(operator.OpcodeIndex())
        number = code.BuiltinCode()
        self.kind: str = tflite.opcode2name(number) if number in tflite.BUILTIN_OPCODE2NAME else f"operator {number}"
        self.inputs: list[int] = operator.InputsAsNumpy().tolist()
        self.output: int = operator.Outputs(0)
        self._table = operator.BuiltinOptions()

    def options(self, kind: type[Any]) -> Any:
        """The options table read as `kind`."""
        if self._table is None:
            raise ConversionError(f"{self.kind} (tensor {self.output}): the file gives no options for it")
        options = kind()
        options.Init(self._table.Bytes, self._table.Pos)
        return options


class _Conversion:
    def __init__(self, model: Any) -> None:
        self._model = model
        self._file = model.Subgraphs(0)
        self._graph = Graph()
        self._constants: dict[int, Array] = {}  # values that are known now, in the file's layout
        self._convert: dict[str, Callable[[_Operator], None]] = {
            "ADD": self._add,
            "CONCATENATION": self._concatenation,
            "CONV_2D": self._convolution,
            "DEPTHWISE_CONV_2D": self._depthwise,
            "DEQUANTIZE": self._dequantize,
            "MAX_POOL_2D": self._max_pool,
            "PAD": self._pad,
            "RELU": self._relu,
            "RESHAPE": self._reshape,
            "RESIZE_BILINEAR": self._resize,
        }

    def run(self) -> Graph:
        for index in range(self._file.TensorsLength()):
            self._read_constant(index)
        for index in self._file.InputsAsNumpy().tolist():
            name, shape = self._plain_name(index), self._shape(index)
            self._graph.input(name, shape[1:])
            if len(shape) == 4:
                self._graph.node("Transpose", [name], self._name(index), perm=_NHWC_TO_NCHW)
            else:
                self._graph.node("Identity", [name], self._name(index))
        for i in range(self._file.OperatorsLength()):
            operator = _Operator(self._model, self._file.Operators(i))
            if operator.kind not in self._convert:
                raise ConversionError(
                    f"{operator.kind} (it makes the tensor {self._plain_name(operator.output)}): this operator is not"
                    f" known here; known are {', '.join(self._convert)}"
                )
            self._convert[operator.kind](operator)
        for index in self._file.OutputsAsNumpy().tolist():
            name, shape = self._plain_name(index), self._shape(index)
            self._graph.output(name, shape[1:])
            if len(shape) == 4:
                self._graph.node("Transpose", [self._name(index)], name, perm=_NCHW_TO_NHWC)
            else:
                self._graph.node("Identity", [self._name(index)], name)
        return self._graph

    # Tensors

    def _plain_name(self, index: int) -> str:
        return str(self._file.Tensors(index).Name().decode())

    def _name(self, index: int) -> str:
        """Name inside the ONNX graph: the file's names need not be unique, its indices are."""
        return f"{self._plain_name(index)}:{index}"

    def _shape(self, index: int) -> list[int]:
        """As in the file: NHWC for pictures."""
        return [int(n) for n in self._file.Tensors(index).ShapeAsNumpy()]

    def _read_constant(self, index: int) -> None:
        tensor = self._file.Tensors(index)
        data = self._model.Buffers(tensor.Buffer()).DataAsNumpy()
        if isinstance(data, int):  # the package's word for "no data": the tensor is worked out
            return
        if tensor.Type() not in _DTYPES:
            raise ConversionError(f"the tensor {self._plain_name(index)} has the type {tensor.Type()}, not known here")
        self._constants[index] = data.view(_DTYPES[tensor.Type()]).reshape(self._shape(index))

    def _constant(self, index: int, operator: _Operator) -> Array:
        if index not in self._constants:
            raise ConversionError(
                f"{operator.kind} (it makes the tensor {self._plain_name(operator.output)}): its operand"
                f" {self._plain_name(index)} is worked out at run time; only constants are known how to convert"
            )
        return self._constants[index]

    # Operators

    def _dequantize(self, operator: _Operator) -> None:
        value = self._constant(operator.inputs[0], operator)
        if value.dtype != np.float16:
            raise ConversionError(
                f"DEQUANTIZE of {self._name(operator.inputs[0])}: {value.dtype}; only float16 is known"
            )
        self._constants[operator.output] = value.astype(np.float32)

    def _convolution(self, operator: _Operator) -> None:
        options = operator.options(tflite.Conv2DOptions)
        weight = self._constant(operator.inputs[1], operator).transpose(0, 3, 1, 2)  # OHWI to OIHW
        self._any_convolution(operator, options, weight, groups=1)

    def _depthwise(self, operator: _Operator) -> None:
        options = operator.options(tflite.DepthwiseConv2DOptions)
        weight = self._constant(operator.inputs[1], operator).transpose(3, 0, 1, 2)  # 1HWO to O1HW
        self._any_convolution(operator, options, weight, groups=self._shape(operator.inputs[0])[3])

    def _any_convolution(self, operator: _Operator, options: Any, weight: Array, *, groups: int) -> None:
        if options.DilationHFactor() != 1 or options.DilationWFactor() != 1:
            raise ConversionError(f"{operator.kind} of {self._name(operator.output)}: dilation is not known here")
        inputs = [self._name(operator.inputs[0]), self._graph.constant(self._name(operator.inputs[1]), weight)]
        if len(operator.inputs) > 2 and operator.inputs[2] >= 0:
            bias = self._constant(operator.inputs[2], operator)
            inputs.append(self._graph.constant(self._name(operator.inputs[2]), bias))
        kernel = list(weight.shape[2:])
        window = self._window(operator, options, kernel)
        self._activated("Conv", inputs, operator, options, group=groups, kernel_shape=kernel, **window)

    def _max_pool(self, operator: _Operator) -> None:
        options = operator.options(tflite.Pool2DOptions)
        kernel = [options.FilterHeight(), options.FilterWidth()]
        window = self._window(operator, options, kernel)
        self._activated("MaxPool", [self._name(operator.inputs[0])], operator, options, kernel_shape=kernel, **window)

    def _window(self, operator: _Operator, options: Any, kernel: Sequence[int]) -> dict[str, list[int]]:
        strides = [options.StrideH(), options.StrideW()]
        if options.Padding() == tflite.Padding.VALID:
            return {"strides": strides, "pads": [0, 0, 0, 0]}
        return {"strides": strides, "pads": same_pads(self._shape(operator.inputs[0])[1:3], kernel, strides)}

    def _activated(
        self, kind: str, inputs: Sequence[str], operator: _Operator, options: Any, **attributes: Any
    ) -> None:
        """Add a node, and behind it the activation that the file has fused into it."""
        output = self._name(operator.output)
        match options.FusedActivationFunction():
            case tflite.ActivationFunctionType.NONE:
                self._graph.node(kind, inputs, output, **attributes)
            case tflite.ActivationFunctionType.RELU:
                self._graph.node("Relu", [self._graph.node(kind, inputs, f"{output}:linear", **attributes)], output)
            case other:
                raise ConversionError(f"{operator.kind} of {output}: fused activation {other} is not known here")

    def _add(self, operator: _Operator) -> None:
        inputs = [self._name(i) for i in operator.inputs]
        shapes = [self._shape(i) for i in operator.inputs]
        if shapes[0] != shapes[1] or any(i in self._constants for i in operator.inputs):
            raise ConversionError(
                f"ADD of {self._name(operator.output)}: adds {shapes}; only like to like is known here"
            )
        self._activated("Add", inputs, operator, operator.options(tflite.AddOptions))

    def _relu(self, operator: _Operator) -> None:
        self._graph.node("Relu", [self._name(operator.inputs[0])], self._name(operator.output))

    def _pad(self, operator: _Operator) -> None:
        widths = self._constant(operator.inputs[1], operator)  # (rank, 2): before and after, NHWC
        if len(widths) == 4:
            widths = widths[list(_NHWC_TO_NCHW)]
        pads = self._graph.constant(f"{self._name(operator.output)}:pads", widths.T.reshape(-1).astype(np.int64))
        self._graph.node("Pad", [self._name(operator.inputs[0]), pads], self._name(operator.output), mode="constant")

    def _resize(self, operator: _Operator) -> None:
        options = operator.options(tflite.ResizeBilinearOptions)
        old, new = self._shape(operator.inputs[0])[1:3], self._constant(operator.inputs[1], operator).tolist()
        mode = "half_pixel" if options.HalfPixelCenters() else "asymmetric"
        mode = "align_corners" if options.AlignCorners() else mode
        factors = np.array([1, 1, new[0] / old[0], new[1] / old[1]], np.float32)
        scales = self._graph.constant(f"{self._name(operator.output)}:scales", factors)
        self._graph.node(
            "Resize",
            [self._name(operator.inputs[0]), "", scales],
            self._name(operator.output),
            mode="linear",
            coordinate_transformation_mode=mode,
        )

    def _reshape(self, operator: _Operator) -> None:
        old, new = self._shape(operator.inputs[0]), self._shape(operator.output)
        output, value = self._name(operator.output), self._name(operator.inputs[0])
        if len(new) == 4 or new[0] != old[0]:
            raise ConversionError(f"RESHAPE of {output}: {old} to {new}; only away from pictures is known here")
        if len(old) == 4:
            value = self._graph.node("Transpose", [value], f"{output}:nhwc", perm=_NCHW_TO_NHWC)
        shape = self._graph.constant(f"{output}:shape", np.array([-1, *new[1:]], np.int64))
        self._graph.node("Reshape", [value, shape], output)

    def _concatenation(self, operator: _Operator) -> None:
        options = operator.options(tflite.ConcatenationOptions)
        rank = len(self._shape(operator.output))
        axis = options.Axis() % rank
        axis = _NHWC_TO_NCHW.index(axis) if rank == 4 else axis
        self._activated("Concat", [self._name(i) for i in operator.inputs], operator, options, axis=axis)
