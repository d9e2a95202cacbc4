"""TFLite to ONNX: the numbers of LiteRT, explicit padding, the same bytes each time, errors that say what is wrong."""

from collections import Counter
from pathlib import Path

import flatbuffers
import numpy as np
import onnx
import pytest
import tflite

from engines.convert.graph import ConversionError, same_pads
from engines.convert.tflite import convert
from tests.data.make_reference_face import DETECTORS, STEP, noise
from tests.faces import engine, reference, store


@pytest.mark.parametrize("name", DETECTORS)
def test_a_detector_computes_what_litert_computes(name: str) -> None:
    detector = engine(name)
    side = detector.inputs[0].shape[1]
    assert isinstance(side, int)
    found = detector.infer({"input": noise(side, 3)})
    by_width = {array.shape[-1]: array[:, ::STEP] for array in found.values()}
    np.testing.assert_allclose(by_width[16], reference()[f"{name}/regressors"], atol=1e-3)
    np.testing.assert_allclose(by_width[1], reference()[f"{name}/logits"], atol=1e-4)


@pytest.mark.parametrize("name", DETECTORS)
def test_what_comes_out_is_plain_for_tensorrt(name: str) -> None:
    model = onnx.load(store().path(name))
    kinds = Counter(node.op_type for node in model.graph.node)
    assert set(kinds) <= {
        "Transpose",
        "Conv",
        "Relu",
        "MaxPool",
        "Add",
        "Pad",
        "Resize",
        "Reshape",
        "Concat",
        "Identity",
    }
    assert kinds["Transpose"] <= 1 + kinds["Reshape"]
    constants = {constant.name: constant for constant in model.graph.initializer}
    for node in model.graph.node:
        attributes = {attribute.name for attribute in node.attribute}
        assert "auto_pad" not in attributes
        assert node.op_type not in ("Conv", "MaxPool") or "pads" in attributes
        assert node.op_type != "Pad" or node.input[1] in constants
    assert all(constant.data_type != onnx.TensorProto.FLOAT16 for constant in constants.values())
    for tensor in (*model.graph.input, *model.graph.output):
        assert tensor.type.tensor_type.shape.dim[0].dim_param == "batch"
    assert [opset.version for opset in model.opset_import] == [17]


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "pads"),
    [
        (128, 3, 2, [0, 1]),
        (15, 3, 2, [1, 1]),
        (48, 3, 1, [1, 1]),
        (128, 5, 2, [1, 2]),
        (30, 1, 2, [0, 0]),
        (4, 2, 2, [0, 0]),
    ],
)
def test_same_padding_is_tensorflows(size: int, kernel: int, stride: int, pads: list[int]) -> None:
    assert same_pads([size], [kernel], [stride]) == pads


def test_the_same_file_gives_the_same_bytes(tmp_path: Path) -> None:
    source = tiny(tmp_path / "tiny.tflite")
    for name in ("a.onnx", "b.onnx"):
        convert([source], tmp_path / name, options={})
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_an_unknown_operator_is_named_with_its_tensor(tmp_path: Path) -> None:
    source = tiny(tmp_path / "tiny.tflite", operator=tflite.BuiltinOperator.L2_NORMALIZATION)
    with pytest.raises(ConversionError, match=r"L2_NORMALIZATION \(it makes the tensor result\)"):
        convert([source], tmp_path / "out.onnx", options={})
    assert not (tmp_path / "out.onnx").exists()


def test_what_is_no_tflite_file_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "face.tflite"
    source.write_bytes(b"PK\x03\x04 a zip, say")
    with pytest.raises(ConversionError, match=r"face\.tflite: not a TFLite file"):
        convert([source], tmp_path / "out.onnx", options={})


def test_options_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConversionError, match="no options"):
        convert([tiny(tmp_path / "tiny.tflite")], tmp_path / "out.onnx", options={"layout": "NCHW"})


def tiny(path: Path, *, operator: int = tflite.BuiltinOperator.RELU) -> Path:
    """A model of one operator from ``picture`` to ``result``, both [1, 4, 4, 2] float32."""
    builder = flatbuffers.Builder(512)
    names = [builder.CreateString(name) for name in ("picture", "result")]
    tensors = []
    for name in names:
        shape = builder.CreateNumpyVector(np.array([1, 4, 4, 2], np.int32))
        tflite.TensorStart(builder)
        tflite.TensorAddShape(builder, shape)
        tflite.TensorAddType(builder, tflite.TensorType.FLOAT32)
        tflite.TensorAddName(builder, name)
        tensors.append(tflite.TensorEnd(builder))
    sides = [builder.CreateNumpyVector(np.array([i], np.int32)) for i in (0, 1)]
    tflite.OperatorStart(builder)
    tflite.OperatorAddInputs(builder, sides[0])
    tflite.OperatorAddOutputs(builder, sides[1])
    operators = offsets(builder, [tflite.OperatorEnd(builder)])
    all_tensors = offsets(builder, tensors)
    tflite.SubGraphStart(builder)
    tflite.SubGraphAddTensors(builder, all_tensors)
    tflite.SubGraphAddInputs(builder, sides[0])
    tflite.SubGraphAddOutputs(builder, sides[1])
    tflite.SubGraphAddOperators(builder, operators)
    graphs = offsets(builder, [tflite.SubGraphEnd(builder)])
    tflite.BufferStart(builder)
    buffers = offsets(builder, [tflite.BufferEnd(builder)])
    tflite.OperatorCodeStart(builder)
    tflite.OperatorCodeAddDeprecatedBuiltinCode(builder, operator)  # as is required of codes below 127
    tflite.OperatorCodeAddBuiltinCode(builder, operator)
    codes = offsets(builder, [tflite.OperatorCodeEnd(builder)])
    tflite.ModelStart(builder)
    tflite.ModelAddVersion(builder, 3)
    tflite.ModelAddOperatorCodes(builder, codes)
    tflite.ModelAddSubgraphs(builder, graphs)
    tflite.ModelAddBuffers(builder, buffers)
    builder.Finish(tflite.ModelEnd(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path


def offsets(builder: flatbuffers.Builder, items: list[int]) -> int:
    builder.StartVector(4, len(items), 4)
    for item in reversed(items):
        builder.PrependUOffsetTRelative(item)
    return int(builder.EndVector())
