"""EfficientNet-Lite (Tan and Le 2019, arXiv 1905.11946; without attention and swish), as PyTorch has it, to ONNX.

The stem and as many of the inverted bottlenecks as are asked for, each batch normalisation folded into the convolution
before it; put out are the means over the maps behind some of them. How many channels there are is read from the file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from engines.convert import torchfile
from engines.convert.graph import ConversionError, Graph, reading, same_pads

SIDE = 112
MEAN, RANGE = 127, 128
"""Taken off the picture, and what it is then divided by (efficientnet-lite, ``MEAN_RGB`` and ``STDDEV_RGB``)."""
EPSILON = 1e-3
"""Of the batch normalisations."""
STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1, 1, 1)
"""Of the blocks of Lite0. The stem has 2."""
Array = npt.NDArray[Any]


def convert(sources: Sequence[Path], destination: Path, *, options: Mapping[str, object]) -> None:
    """Convert the one file of `sources`.

    The option ``means = [4, 7]`` names the blocks, counted from 0 and in rising order, whose maps' means are put out;
    the graph ends with the last. Raises `ConversionError`.
    """
    match options:
        case {"means": [*blocks], **rest} if not rest and blocks and len(sources) == 1:
            means = sorted({n for n in blocks if isinstance(n, int) and 0 <= n < len(STRIDES)})
            if means == blocks:
                with reading(sources[0]):
                    graph(torchfile.read(sources[0]), means).save(destination, name="efficientnet")
                return
    raise ConversionError(
        f"efficientnet: takes one file and the option means = [N, …], rising numbers of blocks below {len(STRIDES)},"
        f" was given {len(sources)} files and {dict(options)}"
    )


def graph(weights: Mapping[str, Array], means: Sequence[int]) -> Graph:
    """``picture`` [batch, 3, 112, 112] RGB in 0..255 -> ``features`` [batch, D], the means behind the blocks `means`.

    Raises `ConversionError` where a weight is missing.
    """
    try:
        return _Conversion(weights).run(means)
    except KeyError as error:
        raise ConversionError(f"efficientnet: the blocks up to {max(means)} need the weight {error}") from error


class _Conversion:
    def __init__(self, weights: Mapping[str, Array]) -> None:
        self._weights = weights
        self._graph = Graph()
        self._side = SIDE
        """Of the maps as they are now."""

    def run(self, means: Sequence[int]) -> Graph:
        made = self._graph
        made.input("picture", (3, SIDE, SIDE))
        centred = made.node("Sub", ["picture", made.constant("mean", np.array(MEAN, np.float32))], "centred")
        scaled = made.node("Div", [centred, made.constant("range", np.array(RANGE, np.float32))], "scaled")
        value = self._bounded(self._convolution("_conv_stem", "_bn0", scaled, stride=2))
        found, width = [], 0
        for number in range(means[-1] + 1):
            value, channels = self._block(f"_blocks.{number}.", value, stride=STRIDES[number])
            if number in means:
                found.append(made.node("ReduceMean", [value], f"mean{number}", axes=[2, 3], keepdims=0))
                width += channels
        made.node("Concat", found, "features", axis=1)
        made.output("features", (width,))
        return made

    def _block(self, name: str, value: str, *, stride: int) -> tuple[str, int]:
        """An inverted bottleneck, which is added to what came where both are alike, and its channels."""
        came = value
        if f"{name}_expand_conv.weight" in self._weights:
            value = self._bounded(self._convolution(f"{name}_expand_conv", f"{name}_bn0", value))
        value = self._bounded(self._convolution(f"{name}_depthwise_conv", f"{name}_bn1", value, stride=stride))
        value = self._convolution(f"{name}_project_conv", f"{name}_bn2", value)
        channels = len(self._weights[f"{name}_project_conv.weight"])
        first = next(part for part in ("_expand_conv", "_depthwise_conv") if f"{name}{part}.weight" in self._weights)
        entered = self._weights[f"{name}{first}.weight"].shape[first == "_expand_conv"]
        if stride == 1 and entered == channels:
            value = self._graph.node("Add", [value, came], f"{name}sum")
        return value, channels

    def _convolution(self, name: str, norm: str, value: str, *, stride: int = 1) -> str:
        """A convolution without bias and the batch normalisation behind it, as one."""
        kernel = self._weights[f"{name}.weight"].astype(np.float64)
        scale, shift, mean, variance = (
            self._weights[f"{norm}.{part}"].astype(np.float64)
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        scale = scale / np.sqrt(variance + EPSILON)
        kernel, bias = kernel * scale[:, np.newaxis, np.newaxis, np.newaxis], shift - mean * scale
        constants = {f"{name}.weight": kernel, f"{name}.bias": bias}
        inputs = [self._graph.constant(key, array.astype(np.float32)) for key, array in constants.items()]
        window = list(kernel.shape[2:])
        pads = same_pads((self._side, self._side), window, (stride, stride))
        self._side = -(-self._side // stride)
        return self._graph.node(
            "Conv",
            [value, *inputs],
            name,
            group=len(kernel) if name.endswith("_depthwise_conv") else 1,
            kernel_shape=window,
            strides=[stride, stride],
            pads=pads,
        )

    def _bounded(self, value: str) -> str:
        """ReLU6."""
        ends = [self._graph.constant(name, np.array(end, np.float32)) for name, end in (("least", 0), ("most", 6))]
        return self._graph.node("Clip", [value, *ends], f"{value}.bounded")
