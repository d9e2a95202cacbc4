"""Precision as a property of the ONNX file: what TensorRT, strongly typed, builds as it stands.

Needs the packages of the extra ``models`` (onnx), and runs where plans are built, never in the agent.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from engines import Array, EngineError, Precision

WIDE_OPERATORS = (
    "BatchNormalization",
    "Exp",
    "LayerNormalization",
    "Log",
    "Mod",
    "ReduceL2",
    "ReduceMax",
    "ReduceMean",
    "ReduceSum",
    "Softmax",
    "Sqrt",
)
"""What stays in 32 bits in fp16: sums over many terms, and functions whose results leave the range of 16 bits."""
PRODUCTS = ("MatMul", "Gemm")
CONVOLUTIONS = ("Conv",)
MOST_LOST = 0.05
"""A layer stays wide in int8 where rounding its input to 8 bits loses more than this of its norm: a few great values
set the step for all the others."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A model as it is built, and as it is checked against."""

    reference: bytes
    """ONNX, in 32 bits."""
    model: bytes
    """ONNX, in the precision that was asked for, with inputs and outputs of the reference's types."""


def prepare(
    path: Path, precision: Precision, calibration: Path | None = None, *, convolutions: bool = True
) -> Prepared:
    """The model of an ONNX file in `precision`.

    8-bit arithmetic whose scales are worked out at run time, which TensorRT does not have, becomes arithmetic in 32
    bits on the same weights. ``int8`` needs `calibration`, an ``.npz`` of inputs that `write_calibration` made of real
    windows, and leaves `convolutions` alone if they are not wanted: TensorRT-RTX has none in 8 bits. Raises
    `EngineError`.
    """
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError as error:
        raise EngineError(
            f"{path.name}: plans are built with the package {error.name}; install the extra gpu"
        ) from error
    try:
        model = onnx.load(path)
    except (OSError, DecodeError) as error:
        raise EngineError(f"{path}: is no ONNX file: {error}") from error
    dequantise(model)
    for i, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type} {i}"  # by which the builder's complaints and int8 tell them apart
    reference = model.SerializeToString()
    match precision:
        case "fp32":
            return Prepared(reference, reference)
        case "fp16":
            return Prepared(reference, _in_16_bits(model))
        case "int8":
            fed = read_calibration(calibration) if calibration else []
            if not fed:
                raise EngineError(
                    f"{path.name}: int8 is fitted to real windows, and none are kept; run:"
                    " python launch.py models build --calibrate SESSION"
                )
            operators = PRODUCTS + CONVOLUTIONS if convolutions else PRODUCTS
            return Prepared(reference, _in_8_bits(reference, fed, operators))


def lost(absolute_most: float, norm: float, size: int) -> float:
    """What rounding to 255 even steps between -`absolute_most` and it loses of an array's norm, on average."""
    return float(absolute_most / 127 * np.sqrt(size / 12) / max(norm, 1e-12))


def dequantise(model: Any) -> int:
    """Turn each DynamicQuantizeLinear, MatMulInteger, Cast, Mul by both scales into one MatMul; how many there were.

    The weights keep the values they have in 8 bits; the activations are no longer rounded.
    """
    from onnx import helper, numpy_helper

    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    readers: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    gone, replaced = [], {}
    for quantise in [node for node in graph.node if node.op_type == "DynamicQuantizeLinear"]:
        _, step, _ = quantise.output
        for product in readers[quantise.output[0]]:
            (cast,) = readers[product.output[0]]
            (both,) = readers[cast.output[0]]
            (scale,) = (node for node in readers[step] if set(both.input) == {cast.output[0], node.output[0]})
            ((by,)) = [name for name in scale.input if name != step]
            if product.op_type != "MatMulInteger" or product.input[1] not in weights or len(product.input) > 3:
                raise EngineError(f"node {product.name!r}: no 8-bit product of the form that is known")
            wide = numpy_helper.to_array(weights[product.input[1]]).astype(np.float32)
            wide *= numpy_helper.to_array(weights[by]).astype(np.float32)
            weights[product.input[1]].CopyFrom(numpy_helper.from_array(wide, product.input[1]))
            inputs = [quantise.input[0], product.input[1]]
            replaced[id(both)] = helper.make_node("MatMul", inputs, [both.output[0]], name=product.name)
            gone += [product, cast, scale]
        gone.append(quantise)
    dropped = {id(node) for node in gone}
    nodes = [replaced.get(id(node), node) for node in graph.node if id(node) not in dropped]
    used = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(kept)
    return len(replaced)


def write_calibration(path: Path, fed: list[dict[str, Array]]) -> None:
    """Keep what a model was fed with in real windows."""
    arrays = {f"{i}.{name}": array for i, feeds in enumerate(fed) for name, array in feeds.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]


def read_calibration(path: Path) -> list[dict[str, Array]]:
    """What `write_calibration` kept. Raises `EngineError`."""
    found: dict[int, dict[str, Array]] = {}
    try:
        with np.load(path) as file:
            for key in file.files:
                i, _, name = key.partition(".")
                found.setdefault(int(i), {})[name] = file[key]
    except (OSError, ValueError) as error:
        raise EngineError(f"{path}: cannot be read: {error}") from error
    return [found[i] for i in sorted(found)]


def _in_16_bits(model: Any) -> bytes:
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    logging.getLogger("onnxruntime.transformers.float16").setLevel(logging.ERROR)
    narrow = convert_float_to_float16(
        model, keep_io_types=True, op_block_list=[*DEFAULT_OP_BLOCK_LIST, *WIDE_OPERATORS], disable_shape_infer=False
    )
    once = {tuple(node.output): node for node in narrow.graph.node}  # it repeats a cast for each that reads it
    del narrow.graph.node[:]
    narrow.graph.node.extend(once.values())
    OnnxModel.graph_topological_sort(narrow.graph)  # its casts stand at the end
    content: bytes = narrow.SerializeToString()
    return content


def _sensitive(reference: bytes, fed: list[dict[str, Array]], operators: Sequence[str]) -> list[str]:
    """Names of the layers whose input, over all that was fed, loses more than `MOST_LOST` in 8 bits.

    And of those that add up exponentials: a sum of odds that is rounded to nothing has no logarithm.
    """
    import onnx

    from engines.ort import OrtEngine

    model = onnx.load_from_string(reference)
    known = {tensor.name for tensor in (*model.graph.initializer, *model.graph.output, *model.graph.input)}
    layers = {node.name: node.input[0] for node in model.graph.node if node.op_type in operators}
    odds = {output for node in model.graph.node if node.op_type == "Exp" for output in node.output}
    for name in sorted({*layers.values()} - known):
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    engine = OrtEngine(Path("calibration"), content=model.SerializeToString())
    most: dict[str, float] = {}
    squares: dict[str, float] = {}
    sizes: dict[str, int] = {}
    for feeds in fed:
        for name, array in {**feeds, **engine.infer(feeds)}.items():
            wide = np.asarray(array, np.float64)
            most[name] = max(most.get(name, 0.0), float(np.abs(wide).max()))
            squares[name] = squares.get(name, 0.0) + float(np.square(wide).sum())
            sizes[name] = sizes.get(name, 0) + wide.size
    return [
        layer
        for layer, name in layers.items()
        if name in odds or lost(most[name], squares[name] ** 0.5, sizes[name]) > MOST_LOST
    ]


def _in_8_bits(reference: bytes, fed: list[dict[str, Array]], operators: Sequence[str]) -> bytes:
    """Quantise and dequantise nodes around the layers that bear it: symmetric, weights by channel, for TensorRT."""
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._feeds: Iterator[dict[str, Array]] = iter(fed)

        def get_next(self) -> dict[str, Array] | None:
            return next(self._feeds, None)

    with tempfile.TemporaryDirectory() as folder:
        wide, narrow = Path(folder) / "wide.onnx", Path(folder) / "narrow.onnx"
        wide.write_bytes(reference)
        quantize_static(
            wide,
            narrow,
            Reader(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(operators),
            nodes_to_exclude=_sensitive(reference, fed, operators),
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={
                "ActivationSymmetric": True,
                "WeightSymmetric": True,
                "QuantizeBias": False,
                "DedicatedQDQPair": True,
            },
        )
        return narrow.read_bytes()
