"""Keras HDF5 models (Keras 2, ``model_config`` as JSON) to ONNX: the layers that small Xceptions are made of.

Pictures are NCHW instead of the file's NHWC, from the input on (with one grey channel that is the same memory). The
output ``probs`` is the file's. The option ``features`` names layers whose outputs are pooled over a grid and joined to
a second output, ``features``, for a linear head to be trained on.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from engines.convert import hdf5
from engines.convert.graph import ConversionError, Graph, reading, same_pads

Array = npt.NDArray[Any]
Shape = list[int]  # without the batch axis: [channels, height, width] or [width]


def convert(sources: Sequence[Path], destination: Path, *, options: Mapping[str, object]) -> None:
    """Convert the one file of `sources`.

    `options` may hold ``features``: the names of layers, each with the side of the grid of means into which its
    output is pooled, ``{"add_4": 4, "add_3": 2}``; the output ``features`` is their concatenation, channels outer and
    the cells of the grid inner. Raises `ConversionError`, which names the layer where one is not known here.
    """
    features = options.get("features", {})
    if len(sources) != 1 or set(options) - {"features"} or not isinstance(features, Mapping):
        raise ConversionError(
            'keras: takes one file and the option features = { "LAYER" = SIDE }, was given'
            f" {len(sources)} and {dict(options)}"
        )
    with reading(sources[0]):
        conversion = _Conversion(hdf5.read(sources[0]), sources[0].name)
        conversion.pool({str(layer): int(side) for layer, side in features.items()})
        conversion.graph.save(destination, name=sources[0].stem)


class _Conversion:
    def __init__(self, file: hdf5.Contents, name: str) -> None:
        self.graph = Graph()
        self._weights = file.weights
        self._shapes: dict[str, Shape] = {}
        self._convert: dict[str, Callable[[str, Any, list[str]], Shape]] = {
            "Activation": self._activation_layer,
            "Add": self._add,
            "BatchNormalization": self._batch_norm,
            "Conv2D": self._convolution,
            "GlobalAveragePooling2D": self._global_average,
            "InputLayer": self._input,
            "MaxPooling2D": self._max_pool,
            "SeparableConv2D": self._separable,
        }
        if file.config is None:
            raise ConversionError(f"{name}: has no model_config: it holds weights alone, without the layers")
        config = json.loads(file.config)["config"]
        for layer in config["layers"]:
            self._layer(layer)
        for (output, *_), title in zip(config["output_layers"], ("probs",), strict=True):
            self.graph.node("Identity", [output], title)
            self.graph.output(title, self._shapes[output])

    def pool(self, grids: Mapping[str, int]) -> None:
        """Add the output ``features``: the means of each named layer over a grid of side x side, joined."""
        parts, width = [], 0
        for layer, side in grids.items():
            shape = self._shapes.get(layer, [])
            if len(shape) != 3 or side < 1 or shape[1] % side or shape[2] % side:
                raise ConversionError(f"keras: features: cannot pool {layer} of shape {shape} into {side}x{side} means")
            cell = [shape[1] // side, shape[2] // side]
            grid = self.graph.node(
                "AveragePool", [layer], f"{layer}/grid", kernel_shape=cell, strides=cell, pads=[0, 0, 0, 0]
            )
            parts.append(self.graph.node("Flatten", [grid], f"{layer}/features", axis=1))
            width += shape[0] * side * side
        if parts:
            self.graph.node("Concat", parts, "features", axis=1)
            self.graph.output("features", [width])

    # Layers

    def _layer(self, layer: Any) -> None:
        kind, name, config = layer["class_name"], layer["config"]["name"], layer["config"]
        if kind not in self._convert:
            raise ConversionError(f"{kind} (the layer {name}): not known here; known are {', '.join(self._convert)}")
        if config.get("data_format", "channels_last") != "channels_last":
            raise ConversionError(f"{kind} (the layer {name}): {config['data_format']} is not known here")
        nodes = layer["inbound_nodes"]
        inputs = [inbound[0] for inbound in nodes[0]] if nodes else []
        self._shapes[name] = self._convert[kind](name, config, inputs)

    def _weight(self, layer: str, name: str) -> Array:
        ends = f"{layer}/", f"/{name}:0"
        found = [array for path, array in self._weights.items() if path.startswith(ends[0]) and path.endswith(ends[1])]
        if len(found) != 1:
            raise ConversionError(f"the layer {layer}: has {len(found)} weights named {name}, not one")
        return found[0]

    def _constant(self, layer: str, name: str, value: Array | None = None) -> str:
        return self.graph.constant(f"{layer}/{name}", self._weight(layer, name) if value is None else value)

    def _input(self, name: str, config: Any, _inputs: list[str]) -> Shape:
        height, width, channels = config["batch_input_shape"][1:]
        shape = [channels, height, width]
        self.graph.input(name, shape)
        return shape

    def _convolution(self, name: str, config: Any, inputs: list[str]) -> Shape:
        kernel = self._weight(name, "kernel").transpose(3, 2, 0, 1)  # HWIO to OIHW
        return self._biased(name, config, inputs[0], kernel, window=self._window(name, config, inputs[0]))

    def _separable(self, name: str, config: Any, inputs: list[str]) -> Shape:
        depthwise = self._weight(name, "depthwise_kernel").transpose(2, 3, 0, 1)  # HWIM to IMHW
        groups = depthwise.shape[0]
        depthwise = depthwise.reshape(-1, 1, *depthwise.shape[2:])
        constant = self._constant(name, "depthwise_kernel", depthwise)
        window = self._window(name, config, inputs[0])
        each = self.graph.node("Conv", [inputs[0], constant], f"{name}/depthwise", group=groups, **window)
        self._shapes[each] = [len(depthwise), *self._out(inputs[0], window)]
        pointwise = self._weight(name, "pointwise_kernel").transpose(3, 2, 0, 1)
        return self._biased(name, config, each, pointwise, window={"strides": [1, 1], "pads": [0, 0, 0, 0]})

    def _biased(self, name: str, config: Any, value: str, kernel: Array, *, window: dict[str, list[int]]) -> Shape:
        """A convolution, with the bias and the activation that the layer's config asks for."""
        operands = [value, self._constant(name, "kernel", kernel)]
        if config["use_bias"]:
            operands.append(self._constant(name, "bias"))
        window = {**window, "kernel_shape": list(kernel.shape[2:])}
        linear = config["activation"] == "linear"
        self.graph.node("Conv", operands, name if linear else f"{name}/linear", **window)
        if not linear:
            self._activation(name, config["activation"], f"{name}/linear")
        return [len(kernel), *self._out(value, window)]

    def _window(self, name: str, config: Any, value: str) -> dict[str, list[int]]:
        kernel, strides = list(config.get("kernel_size") or config["pool_size"]), list(config["strides"])
        if set(config.get("dilation_rate", [1])) != {1}:
            raise ConversionError(f"the layer {name}: dilation is not known here")
        same = config["padding"] == "same"
        pads = same_pads(self._shapes[value][1:], kernel, strides) if same else [0, 0, 0, 0]
        return {"kernel_shape": kernel, "strides": strides, "pads": pads}

    def _out(self, value: str, window: dict[str, list[int]]) -> Shape:
        sizes, kernel, strides, pads = (
            self._shapes[value][1:],
            *(window[k] for k in ("kernel_shape", "strides", "pads")),
        )
        return [(n + pads[i] + pads[i + 2] - kernel[i]) // strides[i] + 1 for i, n in enumerate(sizes)]

    def _batch_norm(self, name: str, config: Any, inputs: list[str]) -> Shape:
        mean, shape = self._weight(name, "moving_mean"), self._shapes[inputs[0]]
        gamma = self._weight(name, "gamma") if config["scale"] else np.ones_like(mean)
        beta = self._weight(name, "beta") if config["center"] else np.zeros_like(mean)
        statistics = [
            self._constant(name, "gamma", gamma),
            self._constant(name, "beta", beta),
            self._constant(name, "mean", mean),
            self._constant(name, "variance", self._weight(name, "moving_variance")),
        ]
        self.graph.node("BatchNormalization", [inputs[0], *statistics], name, epsilon=config["epsilon"])
        return shape

    def _max_pool(self, name: str, config: Any, inputs: list[str]) -> Shape:
        window = self._window(name, config, inputs[0])
        self.graph.node("MaxPool", inputs, name, **window)
        return [self._shapes[inputs[0]][0], *self._out(inputs[0], window)]

    def _global_average(self, name: str, _config: Any, inputs: list[str]) -> Shape:
        self.graph.node("ReduceMean", inputs, name, axes=[2, 3], keepdims=0)
        return self._shapes[inputs[0]][:1]

    def _add(self, name: str, _config: Any, inputs: list[str]) -> Shape:
        if len(inputs) != 2:
            raise ConversionError(f"Add (the layer {name}): adds {len(inputs)} tensors; two are known how to add")
        self.graph.node("Add", inputs, name)
        return self._shapes[inputs[0]]

    def _activation_layer(self, name: str, config: Any, inputs: list[str]) -> Shape:
        self._activation(name, config["activation"], inputs[0])
        return self._shapes[inputs[0]]

    def _activation(self, name: str, kind: str, value: str) -> None:
        match kind:
            case "relu":
                self.graph.node("Relu", [value], name)
            case "softmax":
                # Keras takes the last axis, channels; here that is the first after the batch.
                self.graph.node("Softmax", [value], name, axis=1)
            case _:
                raise ConversionError(f"the layer {name}: the activation {kind} is not known here")
