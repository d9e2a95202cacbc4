"""Precision as a property of the ONNX file: what TensorRT, strongly typed, builds as it stands.

Needs the packages of the extra ``models`` (onnx), and runs where plans are built, never in the agent.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from engines import Array, EngineError, Precision

log = logging.getLogger(__name__)

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


@dataclass(frozen=True, slots=True)
class Prepared:
    """A model as it is built, and as it is checked against."""

    reference: bytes
    """ONNX, in 32 bits."""
    model: bytes
    """ONNX, in the precision that was asked for, with inputs and outputs of the reference's types."""
    held: Sequence[Mapping[str, Array]] = ()
    """Real windows that nothing was fitted to, for int8, which noise cannot check: it is beyond the steps."""


def prepare(
    path: Path,
    precision: Precision,
    calibration: Path | None = None,
    *,
    convolutions: bool = True,
    step: Callable[[str], None] = log.info,
) -> Prepared:
    """The model of an ONNX file in `precision`.

    8-bit arithmetic whose scales are worked out at run time, which TensorRT does not have, becomes arithmetic in 32
    bits on the same weights. ``int8`` needs `calibration`, an ``.npz`` of inputs that `write_calibration` made of real
    windows, and leaves `convolutions` alone if they are not wanted: TensorRT-RTX has none in 8 bits. What of it is in 8
    bits, `step` is told; where no layer bears it, the model is that of ``fp16``. Raises `EngineError`.
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
            from engines.eight_bits import in_8_bits, split

            operators = PRODUCTS + CONVOLUTIONS if convolutions else PRODUCTS
            fitting, held = split(fed)
            narrow = in_8_bits(reference, fitting, held, operators, step=step)
            return Prepared(reference, narrow or _in_16_bits(model), held)


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
