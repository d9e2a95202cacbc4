"""The encoders' networks with what comes before them inside: the spectrogram, and the cut-out of a face.

So built, raw samples and raw pixels are all that goes to a GPU. `tests.bench.preprocessing` says what that costs.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import TensorProto, compose, helper, numpy_helper

from engines.mel import BINS, FLOOR, HOP, RANGE, WINDOW, filters
from engines.portrait import SIDE, WIDE_SIDE

OPSET = 17
Shape = Sequence[str | int]


class Graph:
    """ONNX, a node at a time; values go by the names of what made them."""

    def __init__(self, prefix: str = "") -> None:
        self._prefix = prefix
        self._nodes: list[onnx.NodeProto] = []
        self._constants: list[onnx.TensorProto] = []

    def __call__(self, operator: str, *inputs: object, **attributes: object) -> str:
        """The first output of a node; numbers and arrays among its `inputs` become constants."""
        name = f"{self._prefix}{operator}_{len(self._nodes)}"
        names = [i if isinstance(i, str) else self._constant(np.asarray(i)) for i in inputs]
        self._nodes.append(helper.make_node(operator, names, [name], name=name, **attributes))
        return name

    def named(self, value: str, name: str) -> None:
        """Give a value the name of an output."""
        self._nodes.append(helper.make_node("Identity", [value], [name], name=f"{self._prefix}{name}"))

    def model(
        self, inputs: Mapping[str, tuple[int, Sequence[object]]], outputs: Mapping[str, Shape]
    ) -> onnx.ModelProto:
        """Inputs by name with type and shape, outputs with shape; a string names a free axis."""
        values = [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in inputs.items()]
        results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()]
        graph = helper.make_graph(self._nodes, "graph", values, results, self._constants)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)

    def _constant(self, value: np.ndarray) -> str:
        kept = value.astype(np.float32) if value.dtype == np.float64 else value
        name = f"{self._prefix}constant_{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(kept).reshape(kept.shape), name))
        return name


def mel() -> onnx.ModelProto:
    """pcm float32[batch, samples] -> mel float32[batch, BINS, frames], as `engines.mel.log_mel` makes it.

    The windowed Fourier transform is a convolution by its cosines and sines: TensorRT has no transform of its own.
    """
    g = Graph()
    angles = 2 * np.pi * np.outer(np.arange(WINDOW // 2 + 1), np.arange(WINDOW)) / WINDOW
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)
    waves = np.concatenate([np.cos(angles), np.sin(angles)]) * hann  # (2 * bins, WINDOW)
    half = WINDOW // 2
    # Reflection by slices that run backwards: what TensorRT reads of Pad's reflection depends on its version.
    front = g("Slice", "pcm", np.array([half]), np.array([0]), np.array([1]), np.array([-1]))
    back = g("Slice", "pcm", np.array([-2]), np.array([-half - 2]), np.array([1]), np.array([-1]))
    padded = g("Unsqueeze", g("Concat", front, "pcm", back, axis=1), np.array([1]))
    every = g("Conv", padded, waves[:, np.newaxis], strides=[HOP], pads=[0, 0])  # one frame more than Whisper takes
    parts = g("Slice", every, np.array([0]), np.array([-1]), np.array([2]))
    squares = g("Pow", parts, np.float32(2))
    bins = half + 1
    power = g(
        "Add",
        g("Slice", squares, np.array([0]), np.array([bins]), np.array([1])),
        g("Slice", squares, np.array([bins]), np.array([2 * bins]), np.array([1])),
    )
    bands = g("MatMul", filters(), power)
    logs = g("Mul", g("Log", g("Max", bands, np.float32(FLOOR))), np.float32(1 / np.log(10)))
    least = g("Sub", g("ReduceMax", logs, axes=[1, 2], keepdims=1), np.float32(RANGE))
    g.named(g("Mul", g("Add", g("Max", logs, least), np.float32(4)), np.float32(0.25)), "mel")
    pcm = {"pcm": (TensorProto.FLOAT, ["batch", "samples"])}
    return g.model(pcm, {"mel": ["batch", BINS, "frames"]})


def voice(encoder: onnx.ModelProto) -> onnx.ModelProto:
    """pcm float32[batch, samples] -> embedding, through `mel` and the voice encoder."""
    return compose.merge_models(mel(), compose.add_prefix(encoder, "net."), [("mel", "net.mel")])


def cut_outs() -> onnx.ModelProto:
    """wide uint8[faces, S, S, 3] BGR and grey uint8[faces, s, s] -> what the face networks take, mirrored ones too."""
    g = Graph()
    planes = g("Transpose", g("Cast", "wide", to=TensorProto.FLOAT), perm=[0, 3, 1, 2])
    rgb = g("Gather", planes, np.array([2, 1, 0]), axis=1)
    g.named(rgb, "once")
    g.named(_both_ways(g, rgb), "picture")
    close = g("Unsqueeze", g("Cast", "grey", to=TensorProto.FLOAT), np.array([1]))
    g.named(_both_ways(g, _centred(g, close)), "close")
    inputs = {
        "wide": (TensorProto.UINT8, ["faces", WIDE_SIDE, WIDE_SIDE, 3]),
        "grey": (TensorProto.UINT8, ["faces", SIDE, SIDE]),
    }
    return g.model(inputs, _PREPARED)


def frame(wide_times: int, close_times: int) -> onnx.ModelProto:
    """frame uint8[height, width, 3] BGR and where the faces are -> what the face networks take, mirrored ones too.

    `wide_at` and `close_at` float32[faces, 3, 2] are `engines.portrait.window`'s matrices, transposed; faces are cut
    out so many times larger and averaged down.
    """
    g = Graph()
    height, width = (g("Cast", g("Gather", g("Shape", "frame"), np.array(i)), to=TensorProto.FLOAT) for i in (0, 1))
    last = [g("Sub", n, np.float32(1)) for n in (width, height)]
    scale = g("Div", np.float32(2), g("Concat", *(g("Unsqueeze", n, np.array([0])) for n in last), axis=0))
    planes = g("Transpose", g("Cast", "frame", to=TensorProto.FLOAT), perm=[2, 0, 1])
    rgb = g("Unsqueeze", g("Gather", planes, np.array([2, 1, 0]), axis=0), np.array([0]))
    wide = _taken(g, rgb, "wide_at", scale, WIDE_SIDE, wide_times)
    g.named(wide, "once")
    g.named(_both_ways(g, wide), "picture")
    coloured = _taken(g, rgb, "close_at", scale, SIDE, close_times)
    weights = np.array([0.299, 0.587, 0.114], np.float32).reshape(1, 3, 1, 1)  # as OpenCV's BGR2GRAY
    grey = g("ReduceSum", g("Mul", coloured, weights), np.array([1]), keepdims=1)
    g.named(_both_ways(g, _centred(g, grey)), "close")
    inputs = {
        "frame": (TensorProto.UINT8, ["height", "width", 3]),
        "wide_at": (TensorProto.FLOAT, ["faces", 3, 2]),
        "close_at": (TensorProto.FLOAT, ["faces", 3, 2]),
    }
    return g.model(inputs, _PREPARED)


_PREPARED: Mapping[str, Shape] = {
    "once": ["faces", 3, WIDE_SIDE, WIDE_SIDE],
    "picture": ["twice", 3, WIDE_SIDE, WIDE_SIDE],
    "close": ["twice", 1, SIDE, SIDE],
}


def faces(prepared: onnx.ModelProto, networks: Mapping[str, onnx.ModelProto]) -> onnx.ModelProto:
    """`cut_outs` or `frame`, and the face networks wide, close and general behind it, as one."""
    named = {"picture": "wide.picture", "close": "close.input_1", "once": "general.picture"}
    wide, close, general = (compose.add_prefix(networks[name], f"{name}.") for name in ("wide", "close", "general"))
    behind = compose.merge_models(compose.merge_models(wide, close, io_map=[]), general, io_map=[])
    return compose.merge_models(prepared, behind, list(named.items()))


def _both_ways(g: Graph, value: str) -> str:
    last = np.array([np.iinfo(np.int64).min])
    mirrored = g("Slice", value, np.array([-1]), last, np.array([3]), np.array([-1]))
    return g("Concat", value, mirrored, axis=0)


def _centred(g: Graph, value: str) -> str:
    return g("Sub", g("Mul", value, np.float32(1 / 127.5)), np.float32(1))


def _taken(g: Graph, picture: str, matrices: str, scale: str, side: int, times: int) -> str:
    """Cut-outs (faces, 3, side, side) of one picture (1, 3, H, W)."""
    n = side * times
    y, x = np.mgrid[0:n, 0:n].reshape(2, -1).astype(np.float32)
    pixels = g("MatMul", np.stack([x, y, np.ones_like(x)], axis=1), matrices)  # (faces, n * n, 2)
    places = g("Sub", g("Mul", pixels, scale), np.float32(1))
    rows = g("Reshape", places, np.array([1, -1, n, 2]))  # one below the other, since the picture is one
    patches = g("GridSample", picture, rows, mode="bilinear", padding_mode="border", align_corners=1)
    apart = g("Transpose", g("Reshape", patches, np.array([3, -1, n, n])), perm=[1, 0, 2, 3])
    return g("AveragePool", apart, kernel_shape=[times, times], strides=[times, times]) if times > 1 else apart
