"""Whisper (Radford et al. 2022, arXiv 2212.04356) as ONNX graphs of opset 17, built node by node.

Three graphs come from one set of weights:

``embedding``
    ``mel`` (batch, 80, frames) -> ``embedding`` (batch, 2 D): mean and standard deviation over time of what the first
    layers of the encoder put out.
``encoder``
    ``mel`` (1, 80, frames) -> ``states`` (1, frames / 2, D), and ``cross_keys``, ``cross_values``
    (layers, heads, frames / 2, D / heads): what each layer of the decoder attends to, worked out once for a clip.
``decoder``
    one token: ``token`` (1,) int64, ``cross_keys``, ``cross_values`` as above, ``keys``, ``values``
    (layers, heads, past, D / heads) -> ``logits`` (vocabulary,), ``new_keys``, ``new_values`` with past + 1.
    The position is the length of the past; begin with a past of length 0.

Frames need not make 30 s: positions are cut to what is there. Frames past 3,000 have no position and fail.

With ``int8`` the matrices of linear layers are 8-bit integers with a scale for each output, and their inputs are
quantised as they come. This suits ONNX Runtime on the CPU; TensorRT takes ``float32``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
"""The first with LayerNormalization; TensorRT 8.6 and later take it."""
IR_VERSION = 8
"""That of opset 17."""
EPSILON = 1e-5
"""Of the layer normalisations (PyTorch's default, which Whisper was trained with)."""

Array = npt.NDArray[Any]
Shape = Sequence[int | str]


class Graph(StrEnum):
    """What can be built; see the module's docstring."""

    EMBEDDING = "embedding"
    ENCODER = "encoder"
    DECODER = "decoder"


class Form(StrEnum):
    """How the matrices of linear layers are kept."""

    FLOAT32 = "float32"
    INT8 = "int8"


class Builder:
    """Collects nodes and constants. Every method that adds a node returns the name of its output."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, Array] = {}

    def constant(self, name: str, value: Array) -> str:
        """A weight; naming one twice keeps one copy."""
        self._constants.setdefault(name, value)
        return name

    def ints(self, *values: int) -> str:
        """A vector of indices."""
        return self.constant("ints_" + "_".join(map(str, values)), np.array(values, np.int64))

    def number(self, value: float) -> str:
        """A scalar."""
        return self.constant(f"number_{value!r}", np.array(value, np.float32))

    def add(self, operator: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """A node with one output."""
        return self.add_many(operator, *inputs, outputs=(output or self._fresh(operator),), **attributes)[0]

    def add_many(self, operator: str, *inputs: str, outputs: Sequence[str] | int, **attributes: Any) -> list[str]:
        """A node with several outputs, named or counted."""
        names = [self._fresh(operator, i) for i in range(outputs)] if isinstance(outputs, int) else list(outputs)
        self._nodes.append(helper.make_node(operator, list(inputs), names, name=self._fresh("node"), **attributes))
        return names

    def model(
        self, name: str, *, inputs: Mapping[str, tuple[int, Shape]], outputs: Mapping[str, Shape]
    ) -> onnx.ModelProto:
        """The finished model. `inputs` give type and shape, `outputs` (all float32) their shape."""
        graph = helper.make_graph(
            self._nodes,
            name,
            [helper.make_tensor_value_info(n, kind, list(shape)) for n, (kind, shape) in inputs.items()],
            [helper.make_tensor_value_info(n, TensorProto.FLOAT, list(shape)) for n, shape in outputs.items()],
            [numpy_helper.from_array(np.ascontiguousarray(array), n) for n, array in self._constants.items()],
        )
        opset = helper.make_opsetid("", OPSET)
        model = helper.make_model(graph, opset_imports=[opset], ir_version=IR_VERSION, producer_name="attune")
        onnx.checker.check_model(model)
        return model

    def _fresh(self, stem: str, i: int = 0) -> str:
        return f"{stem.lower()}_{len(self._nodes)}" + (f"_{i}" if i else "")


class Whisper:
    """The weights of one model, by the names that CTranslate2 gives them, and the graphs that they make."""

    def __init__(self, weights: Mapping[str, Array], form: Form) -> None:
        self._weights = weights
        self._form = form
        self._heads = int(weights["encoder/num_heads"])
        self._width = len(weights["encoder/layer_norm/gamma"])
        self._vocabulary = len(weights["decoder/embeddings/weight"])

    def build(self, graph: Graph, *, layers: int = 2) -> onnx.ModelProto:
        """One of the graphs; `layers` are those of the embedding."""
        match graph:
            case Graph.EMBEDDING:
                return self._embedding(layers)
            case Graph.ENCODER:
                return self._encoder()
            case Graph.DECODER:
                return self._decoder()

    @property
    def _head_width(self) -> int:
        return self._width // self._heads

    def _depth(self, side: str) -> int:
        return sum(name.startswith(side) and name.endswith("/ffn/linear_0/weight") for name in self._weights)

    def _embedding(self, layers: int) -> onnx.ModelProto:
        g = Builder()
        states = self._encode(g, layers)
        mean = g.add("ReduceMean", states, axes=[1], keepdims=1)
        centred = g.add("Sub", states, mean)
        deviation = g.add("Sqrt", g.add("ReduceMean", g.add("Mul", centred, centred), axes=[1], keepdims=1))
        g.add("Flatten", g.add("Concat", mean, deviation, axis=1), output="embedding", axis=1)
        return g.model(
            "whisper-embedding",
            inputs={"mel": (TensorProto.FLOAT, ("batch", 80, "frames"))},
            outputs={"embedding": ("batch", 2 * self._width)},
        )

    def _encoder(self) -> onnx.ModelProto:
        g = Builder()
        states = self._encode(g, self._depth("encoder"))
        self._norm(g, states, "encoder/layer_norm", output="states")
        keys, values = [], []
        for i in range(self._depth("decoder")):
            both = self._linear(g, "states", f"decoder/layer_{i}/attention/linear_1")  # (1, T, 2 D)
            key, value = g.add_many("Split", both, g.ints(self._width, self._width), outputs=2, axis=2)
            keys.append(self._split_heads(g, key))
            values.append(self._split_heads(g, value))
        g.add("Concat", *keys, output="cross_keys", axis=0)
        g.add("Concat", *values, output="cross_values", axis=0)
        cross = (self._depth("decoder"), self._heads, "context", self._head_width)
        return g.model(
            "whisper-encoder",
            inputs={"mel": (TensorProto.FLOAT, (1, 80, "frames"))},
            outputs={"states": (1, "context", self._width), "cross_keys": cross, "cross_values": cross},
        )

    def _decoder(self) -> onnx.ModelProto:
        g, depth = Builder(), self._depth("decoder")
        past = g.add("Slice", g.add("Shape", "keys"), g.ints(2), g.ints(3), g.ints(0))  # (1,): its length
        positions = g.constant("positions", self._weights["decoder/position_encodings/encodings"])
        x = g.add("Add", self._embed(g, "token"), g.add("Gather", positions, past, axis=0))  # (1, D)
        x = g.add("Unsqueeze", x, g.ints(0))  # (1, 1, D)
        layers = {
            name: g.add_many("Split", name, g.ints(*[1] * depth), outputs=depth, axis=0)
            for name in ("keys", "values", "cross_keys", "cross_values")
        }
        new_keys, new_values = [], []
        for i in range(depth):
            scope = f"decoder/layer_{i}"
            normed = self._norm(g, x, f"{scope}/self_attention/layer_norm")
            query, key, value = self._queries_keys_values(g, normed, f"{scope}/self_attention/linear_0")
            new_keys.append(g.add("Concat", layers["keys"][i], key, axis=2))
            new_values.append(g.add("Concat", layers["values"][i], value, axis=2))
            mixed = self._attend(g, query, new_keys[-1], new_values[-1])
            x = g.add("Add", x, self._linear(g, mixed, f"{scope}/self_attention/linear_1"))
            normed = self._norm(g, x, f"{scope}/attention/layer_norm")
            query = self._split_heads(g, self._linear(g, normed, f"{scope}/attention/linear_0"))
            mixed = self._attend(g, query, layers["cross_keys"][i], layers["cross_values"][i])
            x = g.add("Add", x, self._linear(g, mixed, f"{scope}/attention/linear_2"))
            x = self._feed_forward(g, x, f"{scope}/ffn")
        g.add("Concat", *new_keys, output="new_keys", axis=0)
        g.add("Concat", *new_values, output="new_values", axis=0)
        self._unembed(g, self._norm(g, x, "decoder/layer_norm"))
        state, cross = ((depth, self._heads, axis, self._head_width) for axis in ("past", "context"))
        grown = (depth, self._heads, "past_and_one", self._head_width)
        inputs = {"token": (TensorProto.INT64, (1,))} | {
            name: (TensorProto.FLOAT, cross if name.startswith("cross") else state) for name in layers
        }
        outputs = {"logits": (self._vocabulary,), "new_keys": grown, "new_values": grown}
        return g.model("whisper-decoder", inputs=inputs, outputs=outputs)

    def _encode(self, g: Builder, layers: int) -> str:
        """Convolutions, positions and the first `layers` of the encoder: (batch, T, D)."""
        x = "mel"
        for name, stride in (("conv1", 1), ("conv2", 2)):
            weight, bias = (g.constant(name + s, self._weights[f"encoder/{name}/{s}"]) for s in ("weight", "bias"))
            x = self._gelu(g, g.add("Conv", x, weight, bias, kernel_shape=[3], strides=[stride], pads=[1, 1]))
        x = g.add("Transpose", x, perm=[0, 2, 1])
        length = g.add("Slice", g.add("Shape", x), g.ints(1), g.ints(2), g.ints(0))
        positions = g.constant("positions", self._weights["encoder/position_encodings/encodings"])
        x = g.add("Add", x, g.add("Slice", positions, g.ints(0), length, g.ints(0)))
        for i in range(layers):
            scope = f"encoder/layer_{i}"
            normed = self._norm(g, x, f"{scope}/self_attention/layer_norm")
            mixed = self._attend(g, *self._queries_keys_values(g, normed, f"{scope}/self_attention/linear_0"))
            x = g.add("Add", x, self._linear(g, mixed, f"{scope}/self_attention/linear_1"))
            x = self._feed_forward(g, x, f"{scope}/ffn")
        return x

    def _feed_forward(self, g: Builder, x: str, scope: str) -> str:
        inner = self._gelu(g, self._linear(g, self._norm(g, x, f"{scope}/layer_norm"), f"{scope}/linear_0"))
        return g.add("Add", x, self._linear(g, inner, f"{scope}/linear_1"))

    def _queries_keys_values(self, g: Builder, x: str, scope: str) -> list[str]:
        thirds = g.add_many("Split", self._linear(g, x, scope), g.ints(*[self._width] * 3), outputs=3, axis=2)
        return [self._split_heads(g, third) for third in thirds]

    def _split_heads(self, g: Builder, x: str) -> str:
        """(B, T, D) to (B, heads, T, D / heads)."""
        split = g.add("Reshape", x, g.ints(0, 0, self._heads, self._head_width))
        return g.add("Transpose", split, perm=[0, 2, 1, 3])

    def _attend(self, g: Builder, query: str, key: str, value: str) -> str:
        """Scaled dot-product attention without a mask: (B, T, D)."""
        scaled = g.add("Mul", query, g.number(1 / math.sqrt(self._head_width)))
        weights = g.add("Softmax", g.add("MatMul", scaled, g.add("Transpose", key, perm=[0, 1, 3, 2])), axis=-1)
        mixed = g.add("Transpose", g.add("MatMul", weights, value), perm=[0, 2, 1, 3])
        return g.add("Reshape", mixed, g.ints(0, 0, self._width))

    def _norm(self, g: Builder, x: str, scope: str, *, output: str | None = None) -> str:
        gamma, beta = (g.constant(f"{scope}/{s}", self._weights[f"{scope}/{s}"]) for s in ("gamma", "beta"))
        return g.add("LayerNormalization", x, gamma, beta, output=output, axis=-1, epsilon=EPSILON)

    def _gelu(self, g: Builder, x: str) -> str:
        """The product x Φ(x), exactly (no tanh)."""
        erf = g.add("Erf", g.add("Div", x, g.number(math.sqrt(2))))
        return g.add("Mul", g.add("Mul", x, g.add("Add", erf, g.number(1.0))), g.number(0.5))

    def _linear(self, g: Builder, x: str, scope: str) -> str:
        weight, bias = self._weights[f"{scope}/weight"], self._weights[f"{scope}/bias"]
        product = self._product(g, x, scope, weight)
        return g.add("Add", product, g.constant(f"{scope}/bias", bias))

    def _product(self, g: Builder, x: str, scope: str, weight: Array) -> str:
        """`x` times the transpose of `weight` (out, in)."""
        if self._form is Form.FLOAT32:
            return g.add("MatMul", x, g.constant(f"{scope}/weight", weight.T))
        levels, scale = quantise(weight)
        x8, x_scale, x_zero = g.add_many("DynamicQuantizeLinear", x, outputs=3)
        product = g.add("MatMulInteger", x8, g.constant(f"{scope}/weight", levels.T), x_zero)
        scales = g.add("Mul", x_scale, g.constant(f"{scope}/scale", scale))
        return g.add("Mul", g.add("Cast", product, to=TensorProto.FLOAT), scales)

    def _embed(self, g: Builder, token: str) -> str:
        """(1, D): the row of the token. Rows and `_unembed` share one matrix."""
        matrix = self._weights["decoder/embeddings/weight"]
        if self._form is Form.FLOAT32:
            return g.add("Gather", g.constant("vocabulary/weight", matrix), token, axis=0)
        levels, scale = quantise(matrix)
        column = g.add("Gather", g.constant("vocabulary/weight", levels.T), token, axis=1)  # (D, 1)
        row = g.add("Cast", g.add("Transpose", column, perm=[1, 0]), to=TensorProto.FLOAT)
        return g.add("Mul", row, g.add("Gather", g.constant("vocabulary/scale", scale), token, axis=0))

    def _unembed(self, g: Builder, x: str) -> None:
        """(1, 1, D) to the output ``logits`` (vocabulary,)."""
        matrix = self._weights["decoder/embeddings/weight"]
        if self._form is Form.FLOAT32:
            vector = g.add("Reshape", x, g.ints(self._width))
            g.add("MatMul", g.constant("vocabulary/weight", matrix), vector, output="logits")
        else:
            product = self._product(g, g.add("Reshape", x, g.ints(1, self._width)), "vocabulary", matrix)
            g.add("Reshape", product, g.ints(-1), output="logits")


def quantise(matrix: Array) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Each row of `matrix` (out, in) as integers -127..127, and their step (out,)."""
    scale = np.maximum(np.abs(matrix).max(axis=1), 1e-12) / 127
    return np.rint(matrix / scale[:, None]).astype(np.int8), scale.astype(np.float32)
