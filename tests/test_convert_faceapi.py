"""face-api's expression net, made up small: read from a shard as the package has it, and run as ONNX."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from engines import open_engine
from engines.convert.faceapi import BLOCKS, MEAN, SIDE, convert, graph, read
from engines.convert.graph import ConversionError

CHANNELS = (2, 3, 4, 5)
SCALE, LEAST = 0.01, -1.2


def names() -> dict[str, tuple[int, ...]]:
    """Every weight, with its shape in the file: height, width, in, out."""
    found: dict[str, tuple[int, ...]] = {}
    for block in range(BLOCKS):
        before, now = (3, *CHANNELS)[block], CHANNELS[block]
        for step in range(4):
            name, come = f"dense{block}/conv{step}", before if step == 0 else now
            if block == step == 0:
                found[f"{name}/filters"] = (3, 3, 3, now)
            else:
                found[f"{name}/depthwise_filter"] = (3, 3, come, 1)
                found[f"{name}/pointwise_filter"] = (1, 1, come, now)
            found[f"{name}/bias"] = (now,)
    return found


def package(folder: Path) -> tuple[Path, Path, dict[str, npt.NDArray[Any]]]:
    """A shard and its manifest, and what they hold in the file's order of axes; the biases are not packed."""
    rng = np.random.default_rng(0)
    data, entries = b"", list[dict[str, object]]()
    held: dict[str, npt.NDArray[Any]] = {}
    for name, shape in names().items():
        if name.endswith("bias"):
            values = rng.normal(0, 0.1, shape).astype(np.float32)
            entries.append({"name": name, "shape": shape, "dtype": "float32"})
            held[name], data = values, data + values.tobytes()
        else:
            levels = rng.integers(0, 256, shape, np.uint8)
            packing = {"dtype": "uint8", "scale": SCALE, "min": LEAST}
            entries.append({"name": name, "shape": shape, "dtype": "float32", "quantization": packing})
            held[name], data = levels * SCALE + LEAST, data + levels.tobytes()
    shard, manifest = folder / "net.bin", folder / "net.json"
    shard.write_bytes(data)
    manifest.write_text(json.dumps([{"weights": entries, "paths": ["net.bin"]}]))
    return shard, manifest, held


def convolved(x: npt.NDArray[Any], kernel: npt.NDArray[Any], stride: int) -> npt.NDArray[Any]:
    """TensorFlow's "same" on (H, W, C) with (3, 3, C, 1) each channel for itself, or (3, 3, C, O)."""
    pad = (0, 1) if stride == 2 else (1, 1)
    x = np.pad(x, (pad, pad, (0, 0)))
    side = (len(x) - 3) // stride + 1
    parts = [
        (x[i : i + side * stride : stride, j : j + side * stride : stride], kernel[i, j])
        for i in range(3)
        for j in range(3)
    ]
    return np.asarray(np.sum([a * k[:, 0] if kernel.shape[3] == 1 else a @ k for a, k in parts], axis=0))


def reference(picture: npt.NDArray[Any], w: dict[str, npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """The maps behind the last block, from the definition in face-api.js (denseBlock4)."""

    def separable(x: npt.NDArray[Any], name: str, stride: int = 1) -> npt.NDArray[Any]:
        deep = convolved(x, w[f"{name}/depthwise_filter"], stride)
        return np.asarray(deep @ w[f"{name}/pointwise_filter"][0, 0] + w[f"{name}/bias"])

    x = np.asarray((picture - np.array(MEAN)) / 255)
    for b in range(BLOCKS):
        name = f"dense{b}"
        if b == 0:
            first = convolved(x, w["dense0/conv0/filters"], 2) + w["dense0/conv0/bias"]
        else:
            first = separable(x, f"{name}/conv0", 2)
        one = np.maximum(first, 0)
        two = separable(one, f"{name}/conv1")
        three = separable(np.maximum(one + two, 0), f"{name}/conv2")
        four = separable(np.maximum(one + two + three, 0), f"{name}/conv3")
        x = np.asarray(np.maximum(one + two + three + four, 0))
    return x


def test_it_computes_what_face_api_defines(tmp_path: Path) -> None:
    shard, manifest, held = package(tmp_path)
    convert([shard, manifest], tmp_path / "net.onnx", options={"stem": 2})
    pictures = np.random.default_rng(1).uniform(0, 255, (2, SIDE, SIDE, 3)).astype(np.float32)
    engine = open_engine(tmp_path / "net.onnx", "onnxruntime")
    found = engine.infer({"picture": np.ascontiguousarray(pictures.transpose(0, 3, 1, 2))})
    wanted = np.array([reference(picture, held).mean(axis=(0, 1)) for picture in pictures])
    assert found["stem"].shape == (2, CHANNELS[1], SIDE // 4, SIDE // 4)
    np.testing.assert_allclose(found["embedding"], wanted, rtol=1e-4, atol=1e-4 * np.abs(wanted).max())


def test_a_shard_that_does_not_fit_its_manifest_is_refused(tmp_path: Path) -> None:
    shard, manifest, _ = package(tmp_path)
    shard.write_bytes(shard.read_bytes() + b"more")
    with pytest.raises(ConversionError, match=r"net\.bin: \d+ bytes, of which the manifest names \d+"):
        read(shard, manifest)
    shard.write_bytes(b"less")
    with pytest.raises(ConversionError, match=r"net\.json, net\.bin: no weights of face-api\.js"):
        read(shard, manifest)


def test_a_missing_weight_is_named(tmp_path: Path) -> None:
    shard, manifest, _ = package(tmp_path)
    weights = read(shard, manifest)
    del weights["dense2/conv1/bias"]
    with pytest.raises(ConversionError, match="needs the weight 'dense2/conv1/bias'"):
        graph(weights)


@pytest.mark.parametrize("options", [{"stem": 4}, {"stem": "2"}, {"layers": 2}])
def test_other_options_are_refused(tmp_path: Path, options: dict[str, object]) -> None:
    shard, manifest, _ = package(tmp_path)
    with pytest.raises(ConversionError, match=r"the option stem = 1\.\.3"):
        convert([shard, manifest], tmp_path / "net.onnx", options=options)
