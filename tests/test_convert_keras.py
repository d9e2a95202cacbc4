"""Keras HDF5 to ONNX: the same numbers as Keras', features on request, and errors that say what is wrong."""

import json
from pathlib import Path

import h5py
import numpy as np
import onnx
import pytest

from engines import open_engine
from engines.convert.graph import ConversionError
from engines.convert.keras import convert
from tests.data.make_reference_face import STEP, noise
from tests.faces import engine, reference, store


def test_the_network_computes_what_keras_computes() -> None:
    found = engine("face-encoder").infer({"input_1": noise(64, 1).transpose(0, 3, 1, 2)})
    np.testing.assert_allclose(found["probs"], reference()["probs"], atol=1e-5)
    np.testing.assert_allclose(found["features"][:, ::STEP], reference()["features"], atol=1e-4)


def test_pads_are_explicit_and_the_batch_is_free() -> None:
    model = onnx.load(store().path("face-encoder"))
    for node in model.graph.node:
        attributes = {attribute.name for attribute in node.attribute}
        assert "auto_pad" not in attributes
        assert node.op_type not in ("Conv", "MaxPool", "AveragePool") or "pads" in attributes
    for tensor in (*model.graph.input, *model.graph.output):
        assert tensor.type.tensor_type.shape.dim[0].dim_param == "batch"


def test_features_are_means_over_a_grid(tmp_path: Path) -> None:
    kernel = np.random.default_rng(0).normal(size=(1, 1, 1, 3)).astype(np.float32)
    source = tiny(tmp_path / "tiny.hdf5", kernel)
    convert([source], tmp_path / "tiny.onnx", options={"features": {"conv": 2}})
    picture = np.arange(16, dtype=np.float32).reshape(1, 1, 4, 4)
    found = open_engine(tmp_path / "tiny.onnx", "onnxruntime").infer({"picture": picture})
    cells = np.array([2.5, 4.5, 10.5, 12.5])
    np.testing.assert_allclose(found["features"][0], np.outer(kernel.ravel(), cells).ravel(), rtol=1e-5)
    convert([source], tmp_path / "again.onnx", options={"features": {"conv": 2}})
    assert (tmp_path / "again.onnx").read_bytes() == (tmp_path / "tiny.onnx").read_bytes()


@pytest.mark.parametrize("features", [{"conv": 3}, {"nothing": 1}, {"pooled": 1}, {"conv": 0}])
def test_features_that_cannot_be_pooled_are_refused(tmp_path: Path, features: dict[str, int]) -> None:
    with pytest.raises(ConversionError, match=f"cannot pool {next(iter(features))}"):
        convert([tiny(tmp_path / "tiny.hdf5")], tmp_path / "out.onnx", options={"features": features})


def test_an_unknown_layer_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match=r"LSTM \(the layer memory\)"):
        convert([tiny(tmp_path / "tiny.hdf5", last="LSTM")], tmp_path / "out.onnx", options={})


def test_an_unknown_activation_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="the layer conv: the activation swish"):
        convert([tiny(tmp_path / "tiny.hdf5", activation="swish")], tmp_path / "out.onnx", options={})


def test_weights_without_layers_are_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "weights.hdf5", "w") as file:
        file.create_group("model_weights")
    with pytest.raises(ConversionError, match="has no model_config"):
        convert([tmp_path / "weights.hdf5"], tmp_path / "out.onnx", options={})


def test_what_is_no_hdf5_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.hdf5").write_bytes(b"<html>not found</html>")
    with pytest.raises(ConversionError, match=r"model\.hdf5: not an HDF5 file"):
        convert([tmp_path / "model.hdf5"], tmp_path / "out.onnx", options={})


def tiny(
    path: Path, kernel: np.ndarray | None = None, *, last: str = "GlobalAveragePooling2D", activation: str = "linear"
) -> Path:
    """A 1x1 convolution of a 4x4 picture to three channels, and their means, as Keras 2 saves it."""
    layers = [
        {
            "class_name": "InputLayer",
            "config": {"name": "picture", "batch_input_shape": [None, 4, 4, 1]},
            "inbound_nodes": [],
        },
        {
            "class_name": "Conv2D",
            "config": {
                "name": "conv",
                "kernel_size": [1, 1],
                "strides": [1, 1],
                "padding": "same",
                "use_bias": False,
                "activation": activation,
                "data_format": "channels_last",
            },
            "inbound_nodes": [[["picture", 0, 0, {}]]],
        },
        {
            "class_name": last,
            "config": {"name": "memory" if last == "LSTM" else "pooled"},
            "inbound_nodes": [[["conv", 0, 0, {}]]],
        },
    ]
    config = {"class_name": "Model", "config": {"layers": layers, "output_layers": [["pooled", 0, 0]]}}
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps(config)
        file["model_weights/conv/conv/kernel:0"] = np.ones((1, 1, 1, 3), np.float32) if kernel is None else kernel
    return path
