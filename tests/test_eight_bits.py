"""How many layers of a network are in 8 bits is fitted to real windows."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from agent.config import Config
from agent.types import Modality, Sample
from engines import Array, builder, placement
from engines.agreement import TOLERANCE, agree, relative_error
from engines.eight_bits import MOST_OFF, split
from engines.models import ModelStore
from engines.ort import OrtEngine
from engines.placement import Deployment
from engines.plan_builder import recorded
from engines.precision import prepare, write_calibration
from engines.trt import TrtEngine
from sensors.session import open_session
from tests.engine_contract import linear
from tests.fakegpu import fake_platform
from tests.outside import ROOT

SIDE = 400


def network(path: Path, nodes: Sequence[onnx.NodeProto], **constants: Array) -> Path:
    """x float32[batch, `SIDE`] -> y float32[batch, `SIDE`]."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", SIDE]) for name in "xy")
    weights = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "small", [x], [y], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@pytest.fixture
def spiky(tmp_path: Path) -> Path:
    """Of what its first layer gives only what is not its one great value counts, which is 70 times the others."""
    mask = np.ones(SIDE)
    mask[0] = 0
    nodes = [
        helper.make_node("MatMul", ["x", "same"], ["h"], name="spiky"),
        helper.make_node("Mul", ["h", "mask"], ["rest"], name="mask"),
        helper.make_node("MatMul", ["rest", "mixed"], ["y"], name="even"),
    ]
    mixed = np.random.default_rng(0).standard_normal((SIDE, SIDE))
    return network(tmp_path / "spiky.onnx", nodes, same=np.eye(SIDE), mask=mask, mixed=mixed)


@pytest.fixture
def cancelling(tmp_path: Path) -> Path:
    """Its result is a twentieth of what its only layer gives."""
    nodes = [
        helper.make_node("MatMul", ["x", "same"], ["h"], name="product"),
        helper.make_node("Mul", ["x", "most"], ["nearly"], name="nearly"),
        helper.make_node("Sub", ["h", "nearly"], ["y"], name="difference"),
    ]
    return network(tmp_path / "cancelling.onnx", nodes, same=np.eye(SIDE), most=np.array(0.95))


def windows(n: int, *, spike: float = 0.0) -> list[dict[str, Array]]:
    rows = np.random.default_rng(1).standard_normal((n, 1, SIDE)).astype(np.float32)
    rows[:, :, 0] += np.float32(spike)
    return [{"x": row} for row in rows]


def fitted(model: Path, fed: Sequence[dict[str, Array]]) -> tuple[Deployment, list[str], TrtEngine]:
    """Placed, built in int8 and opened, which checks it; with what was said of it."""
    plans = model.parent / "plans"
    write_calibration(plans / f"{model.stem}.calibration.npz", list(fed))
    placed = Deployment.of(model, fake_platform(), precision="int8", plans=plans)
    said: list[str] = []
    stored = builder.make(model, placed.key, placed.platform.bindings, calibration=placed.calibration, step=said.append)
    return placed, said, placed.opened(stored)


def rounded(content: bytes) -> list[str]:
    """Names of the nodes whose first operand comes from 8 bits."""
    nodes = onnx.load_from_string(content).graph.node
    made = {name: node.op_type for node in nodes for name in node.output}
    return [n.name for n in nodes if n.op_type == "MatMul" and made.get(n.input[0]) == "DequantizeLinear"]


def test_a_layer_that_8_bits_put_off_stays_wide_where_the_outputs_suffer(spiky: Path) -> None:
    fed = windows(16, spike=70)
    deployment, said, engine = fitted(spiky, fed)
    assert said[1].startswith("int8: 1 of 2 layers, those that it puts off by up to 3 %; outputs are off by up to 0.0")
    assert said[1].endswith(" in 4 windows")
    engine.close()
    first, second = (prepare(spiky, "int8", deployment.calibration).model for _ in range(2))
    assert rounded(first) == ["even"]
    assert first == second


def test_without_the_spike_both_layers_are_in_8_bits(spiky: Path) -> None:
    fed = windows(16)
    _, said, engine = fitted(spiky, fed)
    assert said[1].startswith("int8: 2 of 2 layers, those that it puts off by up to 5 %;")
    wide = OrtEngine(spiky)
    assert 0 < max(relative_error(engine.infer(feeds)["y"], wide.infer(feeds)["y"]) for feeds in fed) < MOST_OFF
    engine.close()


def test_where_no_layer_bears_8_bits_the_model_is_in_16(cancelling: Path) -> None:
    fed = windows(3)
    deployment, said, engine = fitted(cancelling, fed)
    assert said[1] == "int8: of 1 layers none, so that no output is off by more than 0.125; fp16 instead"
    assert prepare(cancelling, "int8", deployment.calibration).model == prepare(cancelling, "fp16").model
    wide = OrtEngine(cancelling)
    for feeds in fed:
        agree(engine.infer(feeds), wide.infer(feeds), precision="fp16", name="cancelling")
    engine.close()


def test_windows_judge_that_the_scales_were_not_fitted_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placement, "axes_of", lambda file: {"batch": (1, 2, 4), "length": (1, 3, 8)})
    fed = [{"x": np.full((1, 1, 4), n, np.float32)} for n in range(1, 10)]
    fitting, held = split(fed)
    assert [int(feeds["x"].max()) for feeds in fitting] == [1, 2, 3, 5, 6, 7, 9]
    assert [int(feeds["x"].max()) for feeds in held] == [4, 8]
    assert split(fed[:7]) == (fed[:7], fed[:7])
    deployment, _, engine = fitted(linear(tmp_path / "linear.onnx"), fed)
    stored = builder.make(
        deployment.model,
        deployment.key,
        deployment.platform.bindings,
        calibration=deployment.calibration,
        step=lambda step: None,
    )
    assert float(stored.probe["x"].max()) == 8
    engine.close()


def test_an_output_that_a_layer_in_8_bits_reads_is_given_as_it_is(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Mul", ["x", "two"], ["twice"], name="twice"),
        helper.make_node("MatMul", ["twice", "same"], ["y"], name="product"),
    ]
    path = network(tmp_path / "both.onnx", nodes, same=np.eye(SIDE), two=np.array(2.0))
    model = onnx.load(path)
    model.graph.output.append(helper.make_tensor_value_info("twice", TensorProto.FLOAT, ["batch", SIDE]))
    onnx.save(model, path)
    (feeds,) = windows(1)
    _, _, engine = fitted(path, [feeds])
    found = engine.infer(feeds)
    np.testing.assert_array_equal(found["twice"], 2 * feeds["x"])
    assert 0 < relative_error(found["y"], found["twice"]) < MOST_OFF
    engine.close()


@pytest.fixture(scope="module")
def seen() -> dict[str, list[dict[str, Array]]]:
    """What the first seconds of the bundled session feed the networks of vision."""
    config = Config.model_validate({"encoders": {"text": {"enabled": False}, "audio": {"enabled": False}}})
    session = open_session(ROOT / "sensors" / "demo")
    events = [e for e in session.events() if isinstance(e, Sample) and e.modality is Modality.VISION][:60]
    return {name: kept.feeds for name, kept in recorded(config, ModelStore(), events).items()}


@pytest.mark.parametrize("name", ["face-detector-near", "face-encoder", "face-general"])
def test_what_a_real_network_gives_on_real_windows_is_within_what_is_allowed(
    tmp_path: Path, seen: dict[str, list[dict[str, Array]]], name: str
) -> None:
    path = tmp_path / f"{name}.onnx"
    path.symlink_to(ModelStore().path(name))
    _, said, engine = fitted(path, seen[name])
    assert said[1].startswith("int8: ")
    wide = OrtEngine(path)
    for feeds in split(seen[name])[1]:
        found, wanted = engine.infer(feeds), wide.infer(feeds)
        assert all(relative_error(found[output], array) < TOLERANCE["int8"] / 2 for output, array in wanted.items())
    engine.close()
