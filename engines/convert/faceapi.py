"""face-api.js's expression net, a weights manifest and its shard, to ONNX; and the same graph with other weights.

The net is the "face feature extractor" of face-api.js (MIT): four dense blocks of separable convolutions on a picture
of 112 pixels, then the mean over the last maps. Weights are 8-bit with a scale and an offset each, and become fp32.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from engines.convert.graph import ConversionError, Graph, reading, same_pads

SIDE = 112
BLOCKS = 4
MEAN = (122.782, 117.001, 104.298)
"""Of red, green and blue, taken off before the picture is divided by 255 (face-api.js, ``normalize``)."""
Array = npt.NDArray[Any]


def convert(sources: Sequence[Path], destination: Path, *, options: Mapping[str, object]) -> None:
    """Convert the shard and the manifest of `sources`.

    The option ``stem = N`` adds the output ``stem``: the maps behind the first N blocks. Raises `ConversionError`.
    """
    stem = options.get("stem", 0)
    if len(sources) != 2 or set(options) - {"stem"} or not isinstance(stem, int) or not 0 <= stem < BLOCKS:
        raise ConversionError(
            f"faceapi: takes a shard, a manifest and the option stem = 1..{BLOCKS - 1}, was given"
            f" {len(sources)} files and {dict(options)}"
        )
    with reading(sources[0]):
        graph(read(sources[0], sources[1]), stem=stem).save(destination, name="face-api")


def read(shard: Path, manifest: Path) -> dict[str, Array]:
    """The weights by name: convolutions as (out, in, height, width), depthwise ones as (channels, 1, …), the rest flat.

    Raises `ConversionError` where manifest and shard do not fit together.
    """
    try:
        entries = [entry for group in json.loads(manifest.read_text("utf-8")) for entry in group["weights"]]
        data, place, found = shard.read_bytes(), 0, {}
        for entry in entries:
            shape, packed = entry["shape"], entry.get("quantization")
            values = np.frombuffer(data, np.uint8 if packed else np.float32, int(np.prod(shape)), place)
            place += values.nbytes
            value = values.astype(np.float32).reshape(shape)
            if packed:
                value = value * np.float32(packed["scale"]) + np.float32(packed["min"])
            found[entry["name"]] = _turned(entry["name"], value)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ConversionError(f"{manifest.name}, {shard.name}: no weights of face-api.js: {error!r}") from error
    if place != len(data):
        raise ConversionError(f"{shard.name}: {len(data)} bytes, of which the manifest names {place}")
    return found


def _turned(name: str, value: Array) -> Array:
    """From TensorFlow's order of axes (height, width, in, out) to ONNX's."""
    if value.ndim != 4:
        return value
    return np.ascontiguousarray(value.transpose((2, 3, 0, 1) if name.endswith("depthwise_filter") else (3, 2, 0, 1)))


def graph(weights: Mapping[str, Array], *, stem: int = 0) -> Graph:
    """``picture`` [batch, 3, 112, 112] RGB in 0..255 -> ``embedding`` [batch, 256], the mean of the last maps.

    Where the weights hold the net's own opinion (``fc``), so does the graph: ``logits`` [batch, 7]. Raises
    `ConversionError` where a weight is missing.
    """
    try:
        return _graph(weights, stem)
    except KeyError as error:
        raise ConversionError(f"face-api: the expression net needs the weight {error}") from error


def _graph(weights: Mapping[str, Array], stem: int) -> Graph:
    made = Graph()
    made.input("picture", (3, SIDE, SIDE))
    mean = made.constant("mean", np.array(MEAN, np.float32).reshape(1, 3, 1, 1))
    centred = made.node("Sub", ["picture", mean], "centred")
    value = made.node("Div", [centred, made.constant("range", np.array(255, np.float32))], "scaled")
    side = SIDE
    for block in range(BLOCKS):
        value = _block(made, weights, f"dense{block}", value, side=side)
        side //= 2
        if block + 1 == stem:
            made.output("stem", (len(weights[f"dense{block}/conv3/bias"]), side, side))
            made.node("Identity", [value], "stem")
    made.node("ReduceMean", [value], "embedding", axes=[2, 3], keepdims=0)
    made.output("embedding", (len(weights[f"dense{BLOCKS - 1}/conv3/bias"]),))
    if "fc/weights" in weights:
        opinion = [made.constant(name, weights[name]) for name in ("fc/weights", "fc/bias")]
        made.node("Gemm", ["embedding", *opinion], "logits")
        made.output("logits", (len(weights["fc/bias"]),))
    return made


def _block(made: Graph, weights: Mapping[str, Array], name: str, value: str, *, side: int) -> str:
    """One dense block, which halves the picture; of its four convolutions each adds to what went before."""
    pads = same_pads((side, side), (3, 3), (2, 2))
    first = f"{name}/conv0"
    if f"{first}/filters" in weights:
        inputs = [
            value,
            *(made.constant(f"{first}/{part}", weights[f"{first}/{part}"]) for part in ("filters", "bias")),
        ]
        value = made.node("Conv", inputs, f"{first}:linear", kernel_shape=[3, 3], strides=[2, 2], pads=pads)
    else:
        value = _separable(made, weights, first, value, strides=[2, 2], pads=pads)
    total = made.node("Relu", [value], first)
    for step in (1, 2, 3):
        seen = total if step == 1 else made.node("Relu", [total], f"{name}/seen{step}")
        new = _separable(made, weights, f"{name}/conv{step}", seen, strides=[1, 1], pads=[1, 1, 1, 1])
        total = made.node("Add", [total, new], f"{name}/sum{step}")
    return made.node("Relu", [total], name)


def _separable(made: Graph, weights: Mapping[str, Array], name: str, value: str, **window: list[int]) -> str:
    deep = weights[f"{name}/depthwise_filter"]
    kernel = made.constant(f"{name}/depthwise_filter", deep)
    value = made.node("Conv", [value, kernel], f"{name}:deep", group=len(deep), kernel_shape=[3, 3], **window)
    point = [made.constant(f"{name}/{part}", weights[f"{name}/{part}"]) for part in ("pointwise_filter", "bias")]
    return made.node("Conv", [value, *point], f"{name}:linear", kernel_shape=[1, 1], strides=[1, 1], pads=[0] * 4)
