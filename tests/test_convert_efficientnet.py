"""EfficientNet-Lite, made up small and as it is, from a file of PyTorch's: the same numbers, and nothing is run."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest

from engines import open_engine
from engines.convert import torchfile
from engines.convert.efficientnet import EPSILON, SIDE, STRIDES, convert
from engines.convert.graph import ConversionError
from tests.data.make_reference_face import noise
from tests.faces import engine, reference, store
from tests.torchsaved import BEGIN, text, write

Array = npt.NDArray[Any]
BLOCKS = ((3, 4), (3, 5), (3, 5), (5, 6))
"""Side of the kernel and channels out of each; the first has as many as the stem, and does not widen."""
WIDER = 2


def net() -> dict[str, Array]:
    """Weights drawn at random; the stem's lie in memory as TensorFlow has them."""
    rng = np.random.default_rng(0)
    found: dict[str, Array] = {}

    def layer(name: str, norm: str, shape: tuple[int, ...]) -> None:
        found[f"{name}.weight"] = rng.normal(0, 1.5 * np.prod(shape[1:]) ** -0.5, shape)
        for part, low, high in (("weight", 0.5, 2), ("bias", 0, 2), ("running_mean", -1, 1), ("running_var", 0.1, 2)):
            found[f"{norm}.{part}"] = rng.uniform(low, high, shape[0])

    layer("_conv_stem", "_bn0", (BLOCKS[0][1], 3, 3, 3))
    came = BLOCKS[0][1]
    for number, (side, channels) in enumerate(BLOCKS):
        block, inner = f"_blocks.{number}.", came * WIDER if number else came
        if number:
            layer(f"{block}_expand_conv", f"{block}_bn0", (inner, came, 1, 1))
        layer(f"{block}_depthwise_conv", f"{block}_bn1", (inner, 1, side, side))
        layer(f"{block}_project_conv", f"{block}_bn2", (channels, inner, 1, 1))
        came = channels
    weights = {name: np.asarray(value, np.float32) for name, value in found.items()}
    weights["_conv_stem.weight"] = weights["_conv_stem.weight"].transpose(2, 3, 1, 0).copy().transpose(3, 2, 0, 1)
    return weights | {"_bn0.num_batches_tracked": np.array([0])}


def wanted(picture: Array, w: dict[str, Array]) -> list[Array]:
    """The means behind each block, from its definition, in 64 bits: (H, W, C) -> (D,)."""

    def layer(x: Array, name: str, norm: str, *, stride: int = 1) -> Array:
        kernel = w[f"{name}.weight"].astype(np.float64)
        k, pad = kernel.shape[2], (kernel.shape[2] - 1 if stride == 1 else kernel.shape[2] - 2)
        x = np.pad(x, ((pad // 2, pad - pad // 2),) * 2 + ((0, 0),))
        side = (len(x) - k) // stride + 1
        y = np.zeros((side, side, len(kernel)))
        for i, j in np.ndindex(k, k):
            seen = x[i : i + side * stride : stride, j : j + side * stride : stride]
            y += seen * kernel[:, 0, i, j] if "depthwise" in name else seen @ kernel[:, :, i, j].T
        y = (y - w[f"{norm}.running_mean"]) / np.sqrt(w[f"{norm}.running_var"] + EPSILON)
        return np.asarray(y * w[f"{norm}.weight"] + w[f"{norm}.bias"])

    def bounded(x: Array) -> Array:
        return np.clip(x, 0, 6)

    x = bounded(layer((picture - 127) / 128, "_conv_stem", "_bn0", stride=2))
    means = []
    for number in range(len(BLOCKS)):
        block, y = f"_blocks.{number}.", x
        if number:
            y = bounded(layer(y, f"{block}_expand_conv", f"{block}_bn0"))
        y = bounded(layer(y, f"{block}_depthwise_conv", f"{block}_bn1", stride=STRIDES[number]))
        y = layer(y, f"{block}_project_conv", f"{block}_bn2")
        x = x + y if x.shape == y.shape else y
        means.append(x.mean(axis=(0, 1)))
    return means


def test_it_computes_what_the_network_is_defined_to(tmp_path: Path) -> None:
    convert([write(tmp_path / "net.pth", net())], tmp_path / "net.onnx", options={"means": [1, 3]})
    pictures = np.random.default_rng(1).uniform(0, 255, (2, SIDE, SIDE, 3)).astype(np.float32)
    given = {"picture": np.ascontiguousarray(pictures.transpose(0, 3, 1, 2))}
    found = open_engine(tmp_path / "net.onnx", "onnxruntime").infer(given)["features"]
    for row, picture in zip(found, pictures, strict=True):
        means = wanted(picture, net())
        np.testing.assert_allclose(row, np.concatenate([means[1], means[3]]), atol=1e-4)
    convert([tmp_path / "net.pth"], tmp_path / "again.onnx", options={"means": [1, 3]})
    assert (tmp_path / "again.onnx").read_bytes() == (tmp_path / "net.onnx").read_bytes()


def test_what_it_was_trained_to_be_is_what_pytorch_computes() -> None:
    picture = (noise(SIDE, 3).transpose(0, 3, 1, 2) + 1) * np.float32(127.5)
    found = engine("face-general").infer({"picture": np.ascontiguousarray(picture)})["features"]
    np.testing.assert_allclose(found, reference()["general"], atol=1e-4)


def test_what_comes_out_is_plain_for_tensorrt() -> None:
    model = onnx.load(store().path("face-general"))
    assert {node.op_type for node in model.graph.node} == {"Sub", "Div", "Conv", "Clip", "Add", "ReduceMean", "Concat"}
    for node in model.graph.node:
        assert node.op_type != "Conv" or "pads" in {attribute.name for attribute in node.attribute}
    for tensor in (*model.graph.input, *model.graph.output):
        assert tensor.type.tensor_type.shape.dim[0].dim_param == "batch"


def test_tensors_lie_in_the_file_as_they_lay_in_memory(tmp_path: Path) -> None:
    held = net()
    found = torchfile.read(write(tmp_path / "net.pth", held))
    assert list(found) == list(held)
    assert found["_conv_stem.weight"].strides == held["_conv_stem.weight"].strides
    for name, array in held.items():
        np.testing.assert_array_equal(found[name], array)


def test_what_a_file_asks_to_be_run_is_not(tmp_path: Path) -> None:
    victim, source = tmp_path / "victim", tmp_path / "net.pth"
    victim.touch()
    source.write_bytes(b"\x80\x02cos\nremove\n" + text(str(victim)) + b"\x85R.")
    with pytest.raises(ConversionError, match=r"net\.pth: .* asks for os\.remove, which no weights need"):
        torchfile.read(source)
    assert victim.exists()
    source = write(source, net(), rebuild=b"cbuiltins\neval\n")
    with pytest.raises(ConversionError, match=r"asks for builtins\.eval"):
        torchfile.read(source)


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"\x80\x02K\x01.\x80\x02K\x02.", BEGIN])
def test_what_is_no_file_of_pytorchs_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "net.pth").write_bytes(content)
    with pytest.raises(ConversionError, match=r"net\.pth: (holds no weights|not what torch\.save wrote)"):
        torchfile.read(tmp_path / "net.pth")


OUTSIDE = (((4, 5), (5, 1)), ((3,), (10,)), ((20,), (0,)), ((2, 2), (-1, 1)), ((0,), (1,)))


@pytest.mark.parametrize(("shape", "steps"), OUTSIDE)
def test_a_tensor_that_reaches_outside_is_refused(shape: tuple[int, ...], steps: tuple[int, ...]) -> None:
    tensor = torchfile._Tensor(torchfile._Storage("<f4", "key", 19), 0, shape, steps)
    with pytest.raises(ValueError, match=r"reaches outside of its 19 numbers"):
        tensor.array({"key": np.zeros(19, np.float32)})


def test_a_missing_weight_is_named(tmp_path: Path) -> None:
    held = net()
    del held["_blocks.1._bn1.running_var"]
    with pytest.raises(ConversionError, match=r"blocks up to 2 need the weight '_blocks\.1\._bn1\.running_var'"):
        convert([write(tmp_path / "net.pth", held)], tmp_path / "net.onnx", options={"means": [2]})


@pytest.mark.parametrize("options", [{}, {"means": []}, {"means": [2, 1]}, {"means": [16]}, {"means": [1], "side": 96}])
def test_other_options_are_refused(tmp_path: Path, options: dict[str, object]) -> None:
    with pytest.raises(ConversionError, match=r"the option means = \[N, …\], rising numbers of blocks below 16"):
        convert([tmp_path / "net.pth"], tmp_path / "net.onnx", options=options)
