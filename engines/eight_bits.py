"""8-bit arithmetic by explicit quantise and dequantise nodes, in as many layers as a network bears on real windows.

Needs the packages of the extra ``models`` (onnx), as `engines.precision` does.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static

from engines import Array
from engines.agreement import TOLERANCE, relative_error
from engines.ort import OrtEngine

MOST_LOST = (0.05, 0.03, 0.02, 0.015, 0.01)
"""A layer stays wide where 8 bits alone put its own result off by more than this. Tried in turn, until the network's
outputs are near enough."""
MOST_OFF = TOLERANCE["int8"] / 2
"""How far any output may be off in any window: the other half of what a plan is allowed is for the GPU's arithmetic."""
HELD_EVERY = 4
FEWEST = 8
"""Of fewer windows all both fit the scales and judge the result."""

Feeds = dict[str, Array]


def in_8_bits(
    reference: bytes,
    fitting: Sequence[Feeds],
    held: Sequence[Feeds],
    operators: Collection[str],
    *,
    step: Callable[[str], None],
) -> bytes | None:
    """The network with those layers in 8 bits that bear it; None where no choice of them keeps it near itself.

    The windows are as `split` deals them. `operators` are the kinds of layers that may be; `step` is told what was
    chosen. The same windows give the same bytes.
    """
    losses = losses_of(reference, fitting, operators)
    expected = answers(reference, held)
    tried: list[str] = []
    for most in MOST_LOST:
        layers = [layer for layer, share in losses.items() if share <= most]
        if layers in ([], tried):
            continue
        narrow, tried = quantised(reference, fitting, layers), layers
        off = farthest(answers(narrow, held), expected)
        if off <= MOST_OFF:
            step(
                f"int8: {len(layers)} of {len(losses)} layers, those that it puts off by up to {100 * most:g} %;"
                f" outputs are off by up to {off:.3f} in {len(held)} windows"
            )
            return narrow
    step(f"int8: of {len(losses)} layers none, so that no output is off by more than {MOST_OFF:g}; fp16 instead")
    return None


def split(fed: Sequence[Feeds]) -> tuple[Sequence[Feeds], Sequence[Feeds]]:
    """Windows that the scales are fitted to, and those that judge the result: every `HELD_EVERY`-th."""
    if len(fed) < FEWEST:
        return fed, fed
    held = range(HELD_EVERY - 1, len(fed), HELD_EVERY)
    return [feeds for i, feeds in enumerate(fed) if i not in held], [fed[i] for i in held]


def answers(model: bytes, fed: Sequence[Feeds]) -> list[Feeds]:
    """What the network puts out for each window."""
    engine = OrtEngine(Path("int8"), content=model)
    return [engine.infer(feeds) for feeds in fed]


def farthest(found: Sequence[Feeds], expected: Sequence[Feeds]) -> float:
    """Greatest error of any output in any window; not a number where one of them is not."""
    pairs = zip(found, expected, strict=True)
    return float(np.max([relative_error(own[name], wanted[name]) for own, wanted in pairs for name in wanted]))


def losses_of(reference: bytes, fed: Sequence[Feeds], operators: Collection[str]) -> dict[str, float]:
    """By the name of the layer, how far 8 bits put its result off over all that was fed, all before it being wide.

    Infinite for those that add up exponentials: a sum of odds that is rounded to nothing has no logarithm.
    """
    model = onnx.load_from_string(reference)
    odds = {name for node in model.graph.node if node.op_type == "Exp" for name in node.output}
    losses = {node.name: np.inf for node in model.graph.node if node.op_type in operators}
    results = {n.name: n.output[0] for n in model.graph.node if n.name in losses and n.input[0] not in odds}
    if not results:
        return losses
    twice = OrtEngine(Path("int8"), content=_with_both(model, quantised(reference, fed, list(results)), results))
    squares = np.zeros((len(results), 2))
    for feeds in fed:
        found = twice.infer(feeds)
        for row, name in zip(squares, results.values(), strict=True):
            wide = found[name].astype(np.float64)
            row += np.square(found[f"{name} narrow"] - wide).sum(), np.square(wide).sum()
    shares = np.sqrt(squares[:, 0] / np.maximum(squares[:, 1], 1e-24))
    return losses | dict(zip(results, shares.tolist(), strict=True))


def _with_both(model: Any, narrow: bytes, results: dict[str, str]) -> bytes:
    """A network of which each layer in `results` is there in 8 bits as well, on the same wide input."""
    graph, other = model.graph, onnx.load_from_string(narrow).graph
    made = {name for node in graph.node for name in node.output}
    known = {tensor.name for tensor in (*graph.initializer, *graph.output)}
    for node in other.node:
        if node.name in results:
            node.name, node.output[0] = f"{node.name} narrow", f"{node.output[0]} narrow"
        if node.output[0] not in made:
            graph.node.append(node)
    graph.initializer.extend(tensor for tensor in other.initializer if tensor.name not in known)
    for name in sorted({each for result in results.values() for each in (result, f"{result} narrow")} - known):
        graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    content: bytes = model.SerializeToString()
    return content


def quantised(reference: bytes, fed: Sequence[Feeds], layers: Sequence[str]) -> bytes:
    """Quantise and dequantise nodes before `layers`: symmetric, weights by channel, results wide, for TensorRT."""

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._feeds: Iterator[Feeds] = iter(fed)

        def get_next(self) -> Feeds | None:
            return next(self._feeds, None)

    model = onnx.load_from_string(reference)
    outputs = list(model.graph.output)
    del model.graph.output[:]  # or one that a layer reads as well would be rounded for whoever asks for it
    with tempfile.TemporaryDirectory() as folder:
        wide, narrow = Path(folder) / "wide.onnx", Path(folder) / "narrow.onnx"
        onnx.save(model, wide)
        quantize_static(
            wide,
            narrow,
            Reader(),
            quant_format=QuantFormat.QDQ,
            nodes_to_quantize=list(layers),
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={
                "ActivationSymmetric": True,
                "WeightSymmetric": True,
                "QuantizeBias": False,
                "DedicatedQDQPair": True,
                "OpTypesToExcludeOutputQuantization": ["Conv", "MatMul", "Gemm"],
            },
        )
        model = onnx.load(narrow)
    model.graph.output.extend(outputs)
    _widen(model.graph, except_for=layers)
    content: bytes = model.SerializeToString()
    return content


def _widen(graph: Any, *, except_for: Collection[str]) -> None:
    """Have all other layers read as it is what was rounded for these."""
    steps = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "QuantizeLinear"}
    rounded = {
        node.output[0]: steps[node.input[0]]
        for node in graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] in steps
    }
    for node in graph.node:
        if node.name not in except_for:
            node.input[:] = [rounded.get(name, name) for name in node.input]
