"""TensorRT's engine, and how one is chosen, built, checked and changed over to, on a GPU that is none."""

import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import onnx
import pytest
from onnx import helper

from agent.config import Config
from agent.types import Modality, Sample
from engines import Engine, EngineError, Placement, builder, open_engine, placement
from engines.agreement import agree
from engines.bindings import Bindings, shared_logger
from engines.encoders import open_encoders
from engines.models import ModelStore
from engines.ort import OrtEngine
from engines.placement import Deployment, Stopped
from engines.plan_builder import FEEDS, Kept, RecordingEngine, build_plans, recorded
from engines.precision import prepare, write_calibration
from engines.swap import SwappingEngine
from engines.trt import TrtEngine
from sensors.session import open_session
from tests.engine_contract import CONTRACT, WEIGHT, linear
from tests.fakegpu import FakeGpu, FakeTensorRT, fake_platform
from tests.outside import ROOT

AXES = {"batch": (1, 2, 4), "length": (1, 3, 8)}
ONES = {"x": np.ones((1, 1, 4), np.float32)}


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(placement, "axes_of", lambda file: AXES)
    return linear(tmp_path / "linear.onnx")


def deployed(model: Path, gpu: FakeGpu | None = None, *way: str) -> Deployment:
    return Deployment.of(model, fake_platform(gpu, *way), precision="fp32", plans=model.parent / "plans")


def built(deployment: Deployment) -> TrtEngine:
    """Opened, from a plan that this process builds."""
    stored = deployment.cache.load(deployment.key) or builder.make(
        deployment.model, deployment.key, deployment.platform.bindings, calibration=None, step=lambda step: None
    )
    deployment.cache.store(stored)
    return deployment.opened(stored)


@pytest.fixture(params=["onnxruntime", "tensorrt", "tensorrt without graphs"])
def engine(request: pytest.FixtureRequest, model: Path) -> Iterator[Engine]:
    match request.param:
        case "onnxruntime":
            opened: Engine = OrtEngine(model)
        case "tensorrt":
            opened = built(deployed(model))
        case _:
            opened = built(deployed(model, FakeGpu(captures=False)))
    yield opened
    opened.close()


@pytest.mark.parametrize("law", CONTRACT, ids=lambda law: law.__name__)
def test_every_engine_keeps_the_contract(engine: Engine, law: Callable[[Engine], None]) -> None:
    law(engine)


def test_a_shape_is_enqueued_first_and_launched_as_a_graph_from_then_on(model: Path) -> None:
    gpu = FakeGpu()
    engine = built(deployed(model, gpu))
    before, fed = gpu.launches, {"x": np.random.default_rng(0).random((3, 3, 4), np.float32)}
    eager = engine.infer(fed)["y"]
    assert gpu.launches == before
    for n in range(1, 4):
        np.testing.assert_array_equal(engine.infer(fed)["y"], eager)
        assert gpu.launches == before + n
    assert engine.graphs == gpu.graphs == 2  # the stored input, by which the plan was checked, has the other


def test_memory_is_made_once_and_given_back(model: Path) -> None:
    gpu = FakeGpu()
    engine = built(deployed(model, gpu))
    allocations = gpu.allocations
    for length in (1, 2, 3, 4, 5, 6, 7, 8) * 3:
        engine.infer({"x": np.ones((2, length, 4), np.float32)})
    assert gpu.allocations == allocations
    engine.close()
    assert (gpu.memory_by_address, gpu.streams, gpu.graphs) == ({}, {}, 0)


def test_prepared_shapes_are_bounded(model: Path) -> None:
    gpu = FakeGpu()
    stored = deployed(model).cache
    built(deployed(model)).close()
    deployment = deployed(model, gpu)
    plan = stored.load(deployment.key)
    assert plan
    engine = TrtEngine(
        plan.plan, name="m", platform=deployment.platform, inputs=plan.inputs, outputs=plan.outputs, shapes=2
    )
    for length in (1, 1, 2, 2, 3, 3, 1, 1):
        x = np.full((1, length, 4), float(length), np.float32)
        np.testing.assert_allclose(engine.infer({"x": x})["y"], x @ WEIGHT, rtol=1e-6)
        assert gpu.graphs <= 2


def test_a_batch_beyond_the_profile_goes_in_several_and_a_length_beyond_it_is_named(model: Path) -> None:
    engine = built(deployed(model))
    x = np.random.default_rng(1).random((11, 2, 4), np.float32)
    np.testing.assert_allclose(engine.infer({"x": x})["y"], x @ WEIGHT, rtol=1e-6)
    with pytest.raises(EngineError, match=r"takes 1 to 8 along length of x, was given 9; change axes .* models build"):
        engine.infer({"x": np.ones((1, 9, 4), np.float32)})
    with pytest.raises(EngineError, match="takes 1 to 4 along batch of x, was given 0"):
        engine.infer({"x": np.ones((0, 2, 4), np.float32)})


def test_a_tensorrt_that_does_not_start_is_an_engine_error_with_its_reason(model: Path) -> None:
    deployment = deployed(model)
    built(deployment).close()
    stored = deployment.cache.load(deployment.key)
    assert stored
    broken = FakeTensorRT(FakeGpu())
    broken.starts = False
    bindings = cast(Bindings, broken)
    platform = replace(deployment.platform, bindings=bindings)
    reason = r"CUDA initialization failure with error: 35"
    with pytest.raises(EngineError, match=rf"has no runtime to offer \({reason}\)"):
        replace(deployment, platform=platform).opened(stored)
    with pytest.raises(EngineError, match=f"linear: the builder does not start: {reason}"):
        builder.build(bindings, model.read_bytes(), name="linear", axes=AXES)


def test_all_engines_share_one_logger_and_each_thread_hears_its_own_complaints(model: Path) -> None:
    """TensorRT keeps the first logger it is given for as long as any engine lives."""
    platform = fake_platform()
    logger, complaints = shared_logger(platform.bindings)
    made = [built(replace(deployed(model), platform=platform)) for _ in range(2)]
    made[0].close()
    assert shared_logger(platform.bindings)[0] is logger
    logger.log(1, "not\nenough memory")
    logger.log(2, "a warning")
    heard: list[list[str]] = []
    elsewhere = threading.Thread(target=lambda: heard.append(complaints.taken()))
    elsewhere.start()
    elsewhere.join()
    assert heard == [[]]
    assert complaints.taken() == ["not enough memory"]
    assert complaints.taken() == []
    ended = threading.Thread(target=lambda: logger.log(1, "of a thread that TensorRT started, and ended"))
    ended.start()
    ended.join()
    assert complaints.taken() == ["of a thread that TensorRT started, and ended"]
    made[1].close()


def test_a_device_that_fails_is_an_engine_error_with_the_reason(model: Path) -> None:
    gpu = FakeGpu()
    engine = built(deployed(model, gpu))
    gpu.broken = True
    with pytest.raises(EngineError, match=r"linear\.onnx: tensorrt 10\.0\.fake on Fake GPU .* illegal memory access"):
        engine.infer(ONES)
    gpu.broken = False
    np.testing.assert_allclose(engine.infer(ONES)["y"], ONES["x"] @ WEIGHT, rtol=1e-6)


def test_a_device_whose_context_is_gone_is_an_engine_error_too(model: Path) -> None:
    gpu = FakeGpu()
    engine = built(deployed(model, gpu))
    gpu.lost = True
    with pytest.raises(EngineError, match=r"failed on inputs of shape .* context is destroyed"):
        engine.infer(ONES)
    with pytest.raises(EngineError, match="does not let go of it: context is destroyed"):
        engine.close()
    with pytest.raises(EngineError, match="cannot take it in: context is destroyed"):
        built(deployed(model, gpu))


def test_what_cannot_be_recorded_as_a_graph_is_enqueued_every_time_and_said_once(
    model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gpu = FakeGpu()
    gpu.refuses = True
    engine = built(deployed(model, gpu))
    for length in (1, 1, 1, 2, 2, 2):
        x = np.full((1, length, 4), float(length), np.float32)
        np.testing.assert_allclose(engine.infer({"x": x})["y"], x @ WEIGHT, rtol=1e-6)
    assert (gpu.launches, gpu.graphs, engine.graphs) == (0, 0, 0)
    assert caplog.text.count("linear.onnx: cannot be recorded as a CUDA graph, so every call is enqueued anew") == 1


def test_a_model_without_free_axes_needs_no_profile(tmp_path: Path) -> None:
    path = linear(tmp_path / "fixed.onnx")
    fixed = onnx.load(path)
    for value, length in ((fixed.graph.input[0], 4), (fixed.graph.output[0], 3)):
        for dim, n in zip(value.type.tensor_type.shape.dim, (2, 5, length), strict=True):
            dim.Clear()
            dim.dim_value = n
    onnx.save(fixed, path)
    engine = built(deployed(path))
    x = np.random.default_rng(0).random((2, 5, 4), np.float32)
    for _ in range(3):
        np.testing.assert_allclose(engine.infer({"x": x})["y"], x @ WEIGHT, rtol=1e-6)


def test_a_plan_that_is_not_the_models_is_refused(model: Path) -> None:
    deployment = deployed(model)
    built(deployment).close()
    stored = deployment.cache.load(deployment.key)
    assert stored
    with pytest.raises(EngineError, match=r"its plan has \['x', 'y'\], the model \['y', 'z'\]"):
        deployment.opened(replace(stored, inputs=(replace(stored.inputs[0], name="z"),)))
    with pytest.raises(EngineError, match="its plan has FLOAT for x float64"):
        deployment.opened(replace(stored, inputs=(replace(stored.inputs[0], dtype=np.dtype(np.float64)),)))
    with pytest.raises(EngineError, match=r"cannot read its plan \(Serialization assertion failed\)"):
        deployment.opened(replace(stored, plan=b"\0\0\0\5nothing"))


def test_auto_says_once_why_it_takes_onnx_runtime_and_touches_nothing_of_tensorrt(tmp_path: Path) -> None:
    """A process that has the bindings but no device: none of them is loaded, so no builder or runtime is made."""
    linear(tmp_path / "a.onnx"), linear(tmp_path / "b.onnx")
    script = (
        "import logging, sys; logging.basicConfig(level=logging.INFO, stream=sys.stdout, format='%(message)s')\n"
        "from engines import open_engine\n"
        "print([open_engine(path).backend for path in sys.argv[1:]])\n"
        "print([name for name in sys.modules if 'tensorrt' in name or 'cuda' in name])\n"
    )
    hidden = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    models = [str(tmp_path / name) for name in ("a.onnx", "b.onnx")]
    command = [sys.executable, "-c", script, *models]
    out = subprocess.run(command, cwd=ROOT, env=hidden, capture_output=True, text=True, check=True).stdout.splitlines()
    assert out[0].startswith("auto: models run on onnxruntime: ")
    assert out[1:] == ["['onnxruntime', 'onnxruntime']", "[]"]


def test_insisting_without_a_device_says_why_and_what_to_do(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none() -> None:
        raise EngineError("no NVIDIA driver on this machine")

    monkeypatch.setattr(placement, "find_platform", none)
    wanted = r'linear.onnx: backend = "tensorrt" was asked for, but no NVIDIA driver .*; set backend = "onnxruntime"'
    with pytest.raises(EngineError, match=wanted):
        open_engine(model, "tensorrt")
    assert open_engine(model, "auto").backend == "onnxruntime"


def asked(model: Path, backend: str, gpu: FakeGpu | None = None, *way: str, live: bool = False) -> Engine:
    platform = fake_platform(gpu, *way)
    wanted = Placement(backend, plans=model.parent / "plans", live=live, platform=platform)  # type: ignore[arg-type]
    return open_engine(model, wanted)


def test_insisting_builds_and_waits_and_afterwards_auto_takes_the_plan(
    model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    assert asked(model, "auto").backend == "onnxruntime"
    assert "no plan for tensorrt 10.0.fake on Fake GPU (SM 9.9) yet; launch.py models build" in caplog.text
    assert asked(model, "tensorrt").backend == "tensorrt"
    assert "linear.onnx: compiling" in caplog.text
    assert asked(model, "auto").backend == "tensorrt"
    assert asked(model, "auto", FakeGpu(name="Another")).backend == "onnxruntime"


def live_until_settled(model: Path, *way: str) -> SwappingEngine:
    engine = asked(model, "auto", FakeGpu(), *way, live=True)
    assert isinstance(engine, SwappingEngine)
    assert engine.backend == "onnxruntime"
    np.testing.assert_allclose(engine.infer(ONES)["y"], ONES["x"] @ WEIGHT, rtol=1e-6)
    assert engine.settled(60)
    return engine


def test_a_live_engine_answers_at_once_and_changes_over_without_losing_a_call(model: Path) -> None:
    engine = live_until_settled(model)
    backends = []
    for n in range(4):
        x = np.full((1, 2, 4), float(n), np.float32)
        np.testing.assert_allclose(engine.infer({"x": x})["y"], x @ WEIGHT, rtol=1e-6)
        backends.append(engine.backend)
    assert backends == ["tensorrt"] * 4  # the first was answered by ONNX Runtime, and checked against it
    engine.close()


def test_a_device_that_fails_after_the_change_is_answered_by_onnx_runtime(
    model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gpu = FakeGpu()
    engine = asked(model, "auto", gpu, live=True)
    assert isinstance(engine, SwappingEngine)
    assert engine.settled(60)
    engine.infer(ONES)
    assert engine.backend == "tensorrt"
    gpu.broken = True
    np.testing.assert_allclose(engine.infer(ONES)["y"], ONES["x"] @ WEIGHT, rtol=1e-6)
    assert engine.backend == "onnxruntime"
    assert "linear.onnx: back on onnxruntime, because" in caplog.text
    engine.close()


@pytest.mark.parametrize(
    ("way", "said"),
    [
        ("wrong", "in fp32 its y is off by 1 of what ONNX Runtime gives for the stored input, 0.01 is allowed"),
        ("crash", "the builder ended with 139: Segmentation fault, so to speak"),
    ],
)
def test_a_plan_that_computes_something_else_or_a_builder_that_crashes_is_said_and_not_tried_again(
    model: Path, caplog: pytest.LogCaptureFixture, way: str, said: str
) -> None:
    engine = live_until_settled(model, way)
    engine.infer(ONES)
    assert engine.backend == "onnxruntime"
    assert said in caplog.text
    engine.close()
    again = asked(model, "auto", live=True)
    assert again.backend == "onnxruntime"
    assert not isinstance(again, SwappingEngine)
    assert f"its plan failed before: linear.onnx: {'tensorrt' if way == 'crash' else 'in fp32'}" in caplog.text
    assert asked(model, "tensorrt").backend == "tensorrt"  # whoever insists has it tried again
    assert asked(model, "auto").backend == "tensorrt"


def test_closing_ends_the_builder(model: Path) -> None:
    deployment, stop = deployed(model, None, "hang"), threading.Event()
    with pytest.raises(Stopped):
        deployment.open_or_build(stop=stop, say=lambda step: stop.set())
    assert deployment.cache.failed(deployment.key) is None
    engine = asked(model, "auto", None, "hang", live=True)
    engine.close()
    assert isinstance(engine, SwappingEngine)
    assert engine.settled(30)


def test_a_model_that_tensorrt_cannot_read_is_said_with_the_node(model: Path) -> None:
    with pytest.raises(EngineError, match=r"the axis length of its input x .* add axes"):
        built(replace(deployed(model), key=replace(deployed(model).key, axes={"batch": (1, 2, 4)})))


def test_outputs_that_are_not_numbers_never_agree() -> None:
    with pytest.raises(EngineError, match="its y is off by nan"):
        agree({"y": np.full(3, np.nan)}, {"y": np.ones(3)}, precision="int8", name="m")


def test_models_build_builds_checks_and_keeps_and_says_each_step(tmp_path: Path) -> None:
    cached, store = ModelStore(), ModelStore(tmp_path)
    for file in cached.cache.glob("face-*"):
        (tmp_path / file.name).hardlink_to(file)
    config = Config.model_validate({"encoders": {"audio": {"enabled": False}, "text": {"enabled": False}}})
    said: list[tuple[str, str]] = []
    names = ["face-encoder", "face-embedding"]
    for _ in range(2):
        build_plans(config, store, fake_platform(), names=names, progress=lambda name, step: said.append((name, step)))
    steps = [step for name, step in said if name == "face-encoder"]
    assert steps[:2] == ["preparing fp16", "compiling"]
    assert steps[2].startswith("fp16, built and checked in ")
    assert steps[3].startswith("fp16, was ready and checked in ")
    assert len(list((tmp_path / "plans").glob("*.plan"))) == 2


def test_models_build_names_every_model_that_failed(tmp_path: Path) -> None:
    store = ModelStore()
    store.cache = tmp_path  # so that no plan is there, and the models in the cache are missing
    config = Config.model_validate({"encoders": {"vision": {"enabled": False}, "audio": {"enabled": False}}})
    with pytest.raises(EngineError, match=r"language-encoder\.onnx: tensorrt .* ended with 139"):
        build_plans(config, store, fake_platform(None, "crash"), progress=lambda name, step: None)


def test_a_plan_in_int8_is_checked_by_what_it_was_fitted_to(model: Path) -> None:
    """Inputs of another size than the noise that plans of wider precision are checked by."""
    plans = model.parent / "plans"
    fed = [{"x": np.full((1, 3, 4), 100.0 * n, np.float32)} for n in (1, 2, 3)]
    write_calibration(plans / "linear.calibration.npz", fed)
    deployment = Deployment.of(model, fake_platform(), precision="int8", plans=plans)
    stored = builder.make(
        model, deployment.key, deployment.platform.bindings, calibration=deployment.calibration, step=lambda step: None
    )
    np.testing.assert_array_equal(stored.probe["x"], fed[1]["x"])
    deployment.opened(stored).close()


def test_in_int8_sums_of_odds_stay_wide(tmp_path: Path) -> None:
    """Of which the smallest would be nothing in 8 bits, and have no logarithm."""
    nodes = [
        helper.make_node("Exp", ["x"], ["odds"]),
        helper.make_node("MatMul", ["odds", "weight"], ["sums"], name="sums"),
        helper.make_node("Log", ["sums"], ["y"]),
    ]
    x, y = (helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", 4]) for name in "xy")
    weight = onnx.numpy_helper.from_array(np.eye(4, dtype=np.float32), "weight")
    graph = helper.make_graph(nodes, "odds", [x], [y], [weight])
    path = tmp_path / "odds.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    fed = {"x": np.asarray([[0, -2, -8, -12]], np.float32)}
    write_calibration(tmp_path / "odds.npz", [fed])
    narrow = OrtEngine(path, content=prepare(path, "int8", tmp_path / "odds.npz").model)
    np.testing.assert_allclose(narrow.infer(fed)["y"], fed["x"], rtol=1e-4, atol=1e-4)


def test_calibration_keeps_what_real_windows_feed_each_model(tmp_path: Path) -> None:
    store = ModelStore()
    config = Config.model_validate({"encoders": {"text": {"enabled": False}, "audio": {"enabled": False}}})
    session = open_session(ROOT / "sensors" / "demo")
    events = [e for e in session.events() if isinstance(e, Sample) and e.modality is Modality.VISION][:60]
    kept = recorded(config, store, events)
    assert {"face-detector-near", "face-encoder", "face"} <= set(kept)
    picture = kept["face"].feeds[0]["picture"]
    assert picture.shape[1:] == (3, 112, 112)
    assert picture.max() > 100  # a real picture, in 0..255
    many = Kept([])
    for n in range(1000):
        many.add({"x": np.full(1, n)})
    assert len(many.feeds) <= FEEDS
    assert [int(each["x"][0]) for each in many.feeds[:3]] == [0, many.stride, 2 * many.stride]


def test_a_replay_never_changes_its_back_end_and_a_live_agent_may(model: Path) -> None:
    """A run that is to come out the same again is answered by one back end from its first window to its last."""
    assert not isinstance(asked(model, "auto"), SwappingEngine)
    built(deployed(model)).close()
    assert isinstance(asked(model, "auto"), TrtEngine)


def test_what_several_cameras_saw_since_the_last_window_goes_as_one_batch() -> None:
    """So one engine serves them all; what arrives within a hop is waited for by nobody."""
    kept: dict[str, Kept] = {}

    def opener(path: Path, threads: int) -> Engine:
        return RecordingEngine(OrtEngine(path), kept.setdefault(path.stem, Kept([])))

    encoders, _ = open_encoders(Config(), ModelStore(), {Modality.VISION}, opener=opener)
    session = open_session(ROOT / "sensors" / "demo")
    shown = next(e for e in session.events() if isinstance(e, Sample) and e.modality is Modality.VISION)
    frames = [replace(shown, source=name, t_ns=t, end_ns=t) for name in ("left", "right") for t in (1, 300_000_000)]
    encoders[Modality.VISION].encode(frames, 400_000_000)
    assert [len(feeds["input"]) for feeds in kept["face-detector-near"].feeds] == [4]
    assert [len(feeds["picture"]) for feeds in kept["face"].feeds] == [8]  # each face, and its mirror image


def test_plans_are_built_one_at_a_time(model: Path) -> None:
    """While one builder hangs another model's waits its turn, and gives up when nobody wants it any more."""
    hanging, waiting = (threading.Event() for _ in range(2))
    begun = threading.Event()
    first = deployed(model, None, "hang")

    def hang() -> None:
        with pytest.raises(Stopped):
            first.open_or_build(stop=hanging, say=lambda step: begun.set())

    thread = threading.Thread(target=hang)
    thread.start()
    assert begun.wait(60)
    other = Deployment.of(
        linear(model.with_name("other.onnx"), 2 * WEIGHT), fake_platform(), precision="fp32", plans=model.parent / "p"
    )
    threading.Timer(0.5, waiting.set).start()
    steps: list[str] = []
    with pytest.raises(Stopped):
        other.open_or_build(stop=waiting, say=steps.append)
    assert steps == []
    hanging.set()
    thread.join()
    other.open_or_build(stop=threading.Event(), say=steps.append).close()
    assert steps[-1] == "compiling"
