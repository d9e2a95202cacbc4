"""Every encoder through TensorRT-RTX's parser and builder, which need no GPU; nothing is run here.

And every name of TensorRT that Attune uses, in the bindings of TensorRT 10.3, 10.16, 11.4 and TensorRT-RTX.
``tensorrt_names.json`` was made by importing the extension module out of the wheels tensorrt-cu12-bindings of these
versions, with empty libraries in place of NVIDIA's, and writing down ``dir`` of its classes.
"""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from engines import EngineError, Precision, Tensor, bindings
from engines import rtx as rtx_only
from engines.agreement import relative_error
from engines.bindings import CLASSES, Bindings, Plan, load_bindings
from engines.builder import build, probe
from engines.models import ModelStore
from engines.ort import OrtEngine
from engines.placement import axes_of
from engines.precision import dequantise, prepare, read_calibration, write_calibration
from tests.engine_contract import linear

COMPILED = (
    ("face-detector-near", "fp16"),
    ("face-detector-far", "fp16"),
    ("face-encoder", "fp32"),
    ("face-encoder", "fp16"),
    ("face-embedding", "fp32"),
    ("face-embedding", "fp16"),
    ("face-general", "fp32"),
    ("face-general", "fp16"),
    ("voice-activity", "fp32"),
    ("voice-encoder", "fp16"),
    ("speech-encoder", "fp16"),
    ("language-encoder", "fp16"),
    ("chinese-encoder", "fp16"),
)
"""What the agent runs, but for the decoder of speech, which is ONNX Runtime's alone; the dear ones only in 16 bits."""

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
NAMES = json.loads(Path(__file__).with_name("tensorrt_names.json").read_text())


@pytest.fixture(scope="module")
def rtx() -> Bindings:
    flavour, found = load_bindings()
    assert flavour == "tensorrt_rtx"
    return found


@pytest.mark.timeout(300)  # the Chinese one is fetched first where it is not there, 72 MB
@pytest.mark.parametrize(("name", "precision"), COMPILED)
def test_every_encoder_is_parsed_and_compiled(rtx: Bindings, name: str, precision: Precision) -> None:
    store = ModelStore()
    store.fetch([name])
    path = store.path(name)
    narrow = prepare(path, precision).model
    onnx.checker.check_model(onnx.load_from_string(narrow))
    assert len(build(rtx, narrow, name=name, axes=axes_of(path.name), flavour=rtx_only.FLAVOUR)) > 100_000


def test_8_bits_by_explicit_quantisation_are_compiled_but_for_convolutions(rtx: Bindings, tmp_path: Path) -> None:
    path = ModelStore().path("voice-encoder")
    engine = OrtEngine(path)
    fed = {"mel": np.random.default_rng(0).standard_normal((1, 80, 100)).astype(np.float32)}
    kept = tmp_path / "voice.calibration.npz"
    write_calibration(kept, [fed])
    assert read_calibration(kept)[0].keys() == {"mel"}
    narrow = prepare(path, "int8", kept, convolutions=False).model
    assert quantised(narrow) == {"MatMul"}
    assert len(build(rtx, narrow, name="voice", axes=axes_of(path.name), flavour=rtx_only.FLAVOUR)) < 15_000_000
    found = OrtEngine(path, content=narrow).infer(fed)["embedding"]
    assert relative_error(found, engine.infer(fed)["embedding"]) < 0.1
    assert quantised(prepare(path, "int8", kept).model) == {"Conv", "MatMul"}
    with pytest.raises(EngineError, match=r"int8 is fitted to real windows, .* models build --calibrate SESSION"):
        prepare(path, "int8")


def quantised(content: bytes) -> set[str]:
    """Operators both of whose operands come from 8 bits."""
    nodes = onnx.load_from_string(content).graph.node
    made = {name: node.op_type for node in nodes for name in node.output}
    return {node.op_type for node in nodes if [made.get(name) for name in node.input[:2]] == ["DequantizeLinear"] * 2}


def test_the_language_encoder_as_it_is_is_refused_by_the_nodes_name(rtx: Bindings) -> None:
    path = ModelStore().path("language-encoder")
    with pytest.raises(EngineError, match=r"cannot read these nodes: DynamicQuantizeLinear '0\.qkv\.in' .* 45 more"):
        build(rtx, path.read_bytes(), name="language", axes=axes_of(path.name))


def test_dequantised_it_computes_nearly_the_same(rtx: Bindings) -> None:
    path = ModelStore().path("language-encoder")
    model = onnx.load(path)
    assert dequantise(model) == 24
    assert not {node.op_type for node in model.graph.node} & {"DynamicQuantizeLinear", "MatMulInteger"}
    engine, wide = OrtEngine(path), OrtEngine(path, content=model.SerializeToString())
    fed = probe(engine.inputs, axes_of(path.name))
    assert relative_error(wide.infer(fed)["features"], engine.infer(fed)["features"]) < 0.1


def test_an_axis_without_lengths_and_lengths_that_do_not_fit_are_named(rtx: Bindings, tmp_path: Path) -> None:
    content = linear(tmp_path / "linear.onnx").read_bytes()
    with pytest.raises(EngineError, match=r"linear: the axis length of its input x .* is free, .* batch; add"):
        build(rtx, content, name="linear", axes={"batch": (1, 2, 4)})
    with pytest.raises(EngineError, match="linear: the builder gave no plan: "):
        build(rtx, content, name="linear", axes={"batch": (1, 2, 4), "length": (3, 2, 1)})


def test_an_operator_that_nobody_knows_is_named(rtx: Bindings) -> None:
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 4]) for n in "xy")
    node = helper.make_node("Telepathy", ["x"], ["y"], name="guess", domain="other.world")
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("other.world", 1)]
    graph = helper.make_graph([node], "g", [x], [y])
    content = helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
    with pytest.raises(EngineError, match=r"telepath: TensorRT cannot read these nodes: Telepathy 'guess' "):
        build(rtx, content, name="telepath", axes={})


def test_what_is_no_onnx_at_all_is_said(rtx: Bindings, tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    with pytest.raises(EngineError, match=r"broken\.onnx: is no ONNX file"):
        prepare(tmp_path / "broken.onnx", "fp32")
    with pytest.raises(EngineError, match="TensorRT cannot read these nodes: "):
        build(rtx, b"no model", name="broken", axes={})


def members(protocol: type[Any]) -> set[str]:
    return {name for name in {**vars(protocol), **protocol.__annotations__} if not name.startswith("_")}


def test_what_only_tensorrt_rtx_has_is_in_its_bindings(rtx: Bindings) -> None:
    for protocol, called in rtx_only.CLASSES.items():
        assert members(protocol) <= set(dir(getattr(rtx, called))), called
    assert {"EAGER", "NONE"} <= set(dir(rtx.DynamicShapesKernelSpecializationStrategy))  # type: ignore[attr-defined]
    assert members(rtx_only.RtxBindings) <= set(dir(rtx))


@pytest.mark.parametrize(("axes", "kernels"), [(("batch", 3), "EAGER"), (("batch", "frames"), "NONE")])
def test_kernels_of_tensorrt_rtx_do_not_change_under_way(
    rtx: Bindings, axes: tuple[str | int, ...], kernels: str
) -> None:
    made: dict[str, Any] = {}
    config = SimpleNamespace(set_execution_context_allocation_strategy=lambda ours: made.update(memory=ours))
    plan = cast(Plan, SimpleNamespace(create_runtime_config=lambda: config))
    inputs = [Tensor("x", np.dtype(np.float32), axes)]
    found = rtx_only.runtime_config(plan, rtx, inputs)
    assert found.dynamic_shapes_kernel_specialization_strategy.name == kernels
    assert made["memory"] == rtx.ExecutionContextAllocationStrategy.USER_MANAGED


@pytest.mark.parametrize("version", [*NAMES, "rtx"])
def test_every_name_used_is_in_the_bindings(rtx: Bindings, version: str) -> None:
    """mypy refuses what is not in `engines.bindings`; here what is in it is looked up in the real ones."""
    for protocol, called in CLASSES.items():
        there = set(dir(getattr(rtx, called)) if version == "rtx" else NAMES[version][called])
        assert members(protocol) <= there, f"{called} of {version}"
    enums = {
        "ILogger": "ERROR",
        "NetworkDefinitionCreationFlag": "STRONGLY_TYPED",
        "MemoryPoolType": "WORKSPACE",
        "ExecutionContextAllocationStrategy": "USER_MANAGED",
    }
    for called, name in enums.items():
        assert name in (dir(getattr(rtx, called)) if version == "rtx" else NAMES[version][called])
    classes = set(enums) | {"Builder", "OnnxParser", "Runtime"}
    assert members(bindings.Bindings) == classes
    assert classes <= set(dir(rtx) if version == "rtx" else NAMES[version])
