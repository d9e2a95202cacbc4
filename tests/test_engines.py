"""The engines' door, and ONNX Runtime behind it."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from engines import EngineError, open_engine
from engines.benchmark import Rates, Work, work_of
from engines.models import ModelStore
from engines.ort import OrtEngine
from tests.engine_contract import linear
from tests.outside import ROOT


def test_an_engine_says_what_it_is_and_runs() -> None:
    engine = open_engine(ModelStore().path("face-encoder"), "onnxruntime")
    (taken,) = engine.inputs
    assert engine.backend == "onnxruntime"
    assert "face-encoder.onnx on onnxruntime" in str(engine)
    shape = [n if isinstance(n, int) else 2 for n in taken.shape]
    outputs = engine.infer({taken.name: np.zeros(shape, taken.dtype)})
    assert set(outputs) == {tensor.name for tensor in engine.outputs}
    engine.close()


def test_feeds_that_do_not_fit_are_named() -> None:
    engine = open_engine(ModelStore().path("face-encoder"), "onnxruntime")
    (taken,) = engine.inputs
    with pytest.raises(EngineError, match=r"takes the inputs \['.+'\], was given \['wrong'\]"):
        engine.infer({"wrong": np.zeros(1, np.float32)})
    with pytest.raises(EngineError, match=r"takes .+ float32\[.+\], was given float64\[1\]"):
        engine.infer({taken.name: np.zeros(1, np.float64)})


def test_a_model_that_is_none_and_a_back_end_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    with pytest.raises(EngineError, match=r"broken\.onnx: onnxruntime .* cannot open it"):
        open_engine(tmp_path / "broken.onnx", "onnxruntime")
    with pytest.raises(EngineError, match='set backend = "onnxruntime"'):
        open_engine(tmp_path / "broken.onnx", "tensorrt")


def test_the_runtime_collects_no_usage_data(tmp_path: Path) -> None:
    script = "import sys; from engines import open_engine; open_engine(sys.argv[1], 'onnxruntime')"
    env = {key: value for key, value in os.environ.items() if key != "ORT_DISABLE_TELEMETRY"}
    env |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    model = str(ModelStore().path("face-encoder"))
    subprocess.run([sys.executable, "-c", script, model], cwd=ROOT, env=env, check=True)
    assert [str(path) for path in tmp_path.rglob("*")] == []


MODELS_IN_TURN = """
import os, sys
from pathlib import Path
import numpy as np
import onnx.parser
from engines.ort import OrtEngine
from tests.soak.usage import Usage

chain = '<ir_version: 8, opset_import: ["": 17]> chain (float[n, 1024] x) => (float y) {'
chain += "a = Softmax<axis = 1>(x) b = Mul(x, a) y = ReduceMax<keepdims = 0>(b) }"
path = Path(sys.argv[1])
path.write_bytes(onnx.parser.parse_model(chain).SerializeToString())
engines = []
for _ in range(4):
    engines.append(OrtEngine(path))
    for rows in 1024, 3072, 8192:
        engines[-1].infer({"x": np.ones((rows, 1024), np.float32)})
    print(Usage.of(os.getpid(), 0).rss_mib)
"""


def test_models_that_run_in_turn_use_the_same_memory(tmp_path: Path) -> None:
    words = [sys.executable, "-c", MODELS_IN_TURN, str(tmp_path / "chain.onnx")]
    ended = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    held_mib = [float(line) for line in ended.stdout.split()]
    one_mib = 2 * 8192 * 1024 * 4 / (1 << 20)  # of what is between input and output
    assert held_mib[-1] - held_mib[0] < one_mib, "memory for each by itself would be three times that"


def test_the_floor_counts_multiplications_and_bytes(tmp_path: Path) -> None:
    path = linear(tmp_path / "linear.onnx")
    work = work_of(path, {"x": np.ones((2, 5, 4), np.float32)}, "fp16")
    assert work == Work(flops=2 * (2 * 5 * 3) * 4, bytes=4 * (2 * 5 * 4) + 4 * (2 * 5 * 3) + 2 * 12)
    rates = Rates(flops_per_s=240e6, bytes_per_s=304e9, call_s=1e-6)
    assert rates.floor_s(work) == pytest.approx(2e-6)
    (taken,) = OrtEngine(ModelStore().path("face-encoder")).inputs
    pictures = {taken.name: np.zeros((2, 1, 64, 64), np.float32)}
    path = ModelStore().path("face-encoder")
    two, one = (work_of(path, {taken.name: pictures[taken.name][:n]}, "fp32") for n in (2, 1))
    assert two.flops == 2 * one.flops > 1e7
