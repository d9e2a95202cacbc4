"""``launch.py bench engines``: what each network costs on each back end, and how near that is to what a device can do.

The floor of a call is the greater of its multiplications over the device's measured rate and of its weights, inputs and
outputs over the measured bandwidth, plus what an all but empty network costs there. The three are measured by networks
made for it, through the same engine and in the same precision.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from engines import Array, Engine, EngineError, Precision
from engines.builder import make, probe
from engines.models import ModelStore
from engines.ort import OrtEngine
from engines.placement import Deployment, axes_of
from engines.plan_builder import PLACED, plans_of
from engines.platforms import Platform
from engines.trt import TrtEngine

BATCHES = (1, 4, 16)
WARM = 5
SECONDS = 1.0
"""At least so long is measured, and `RUNS` times."""
RUNS = 50


@dataclass(frozen=True, slots=True)
class Figures:
    """One network on one back end at one batch."""

    model: str
    way: str
    batch: int
    p50_ms: float
    p99_ms: float
    per_s: float
    """Items a second, one call after the other."""
    floor_ms: float
    ratio: float
    """Median over floor."""


@dataclass(frozen=True, slots=True)
class Work:
    """What one call has to do at least."""

    flops: float
    bytes: float


@dataclass(frozen=True, slots=True)
class Rates:
    """What a device does at most, as measured."""

    flops_per_s: float
    bytes_per_s: float
    call_s: float
    """Of a network that does next to nothing."""

    def floor_s(self, work: Work) -> float:
        return max(work.flops / self.flops_per_s, work.bytes / self.bytes_per_s) + self.call_s


@dataclass(frozen=True, slots=True)
class Way:
    """A back end in one of its manners."""

    name: str
    precision: Precision
    open: Callable[[Path], Engine]
    gpu: bool = True


def ways(store: ModelStore, platform: Platform | None, folder: Path, *, threads: int) -> Iterator[Way]:
    """Those that this machine has. Plans that are not kept are built by this process, and left in `folder`."""
    yield Way(f"onnxruntime CPU, {threads} threads", "fp32", lambda path: OrtEngine(path, threads=threads), gpu=False)
    if platform is None:
        return
    yield Way("onnxruntime CUDA", "fp32", lambda path: OrtEngine(path, cuda=True))
    for precision in ("fp32", "fp16"):
        for graphs in (False, True):
            kind = "graph" if graphs else "eager"

            def opened(path: Path, precision: Precision = precision, graphs: bool = graphs) -> Engine:
                plans = plans_of(store) if path.parent != folder else folder
                return on_tensorrt(Deployment.of(path, platform, precision=precision, plans=plans), graphs=graphs)

            yield Way(f"{platform.flavour} {precision} {kind}", precision, opened)


def on_tensorrt(deployment: Deployment, *, graphs: bool) -> TrtEngine:
    """The kept plan, or one that is built here and now."""
    stored = deployment.cache.load(deployment.key)
    if stored is None:
        stored = make(
            deployment.model, deployment.key, deployment.platform.bindings, calibration=None, step=lambda step: None
        )
        deployment.cache.store(stored)
    return deployment.opened(stored, graphs=graphs)


def measure(
    store: ModelStore,
    platform: Platform | None,
    *,
    threads: int = 1,
    names: Sequence[str] = (),
    said: Callable[[str], None],
) -> list[Figures]:
    """All networks that the agent places, or those of `names`; what cannot be run is `said`."""
    wanted = [name for placed in PLACED.values() for name in placed if not names or name in names]
    found = []
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for way in ways(store, platform, folder, threads=threads):
            try:
                rates = measured_rates(way, folder)
            except EngineError as error:
                said(f"{way.name}: {error}")
                continue
            said(
                f"{way.name}: {rates.flops_per_s / 1e9:.0f} GFLOP/s, {rates.bytes_per_s / 1e9:.1f} GB/s,"
                f" {rates.call_s * 1e6:.0f} µs a call"
            )
            for name in wanted:
                try:
                    found += list(_figures(store.path(name), name, way, rates))
                except EngineError as error:
                    said(f"{way.name}: {error}")
    return found


def _figures(path: Path, name: str, way: Way, rates: Rates) -> Iterator[Figures]:
    engine = way.open(path)
    try:
        for batch in BATCHES:
            fed = probe(engine.inputs, {**axes_of(path.name), "batch": (batch, batch, batch)})
            if batch > 1 and not any("batch" in tensor.shape for tensor in engine.inputs):
                return
            p50, p99 = timed(engine, fed)
            floor = rates.floor_s(work_of(path, fed, way.precision))
            yield Figures(name, way.name, batch, p50 * 1e3, p99 * 1e3, batch / p50, floor * 1e3, p50 / floor)
    finally:
        engine.close()


def timed(engine: Engine, fed: Mapping[str, Array], *, runs: int = RUNS) -> tuple[float, float]:
    """Median and 99th percentile of a call, in seconds."""
    for _ in range(min(WARM, runs)):
        engine.infer(fed)
    took: list[int] = []
    until = time.perf_counter_ns() + int(SECONDS * 1e9)
    while len(took) < runs or time.perf_counter_ns() < until:
        begin = time.perf_counter_ns()
        engine.infer(fed)
        took.append(time.perf_counter_ns() - begin)
    return float(np.quantile(took, 0.5)) / 1e9, float(np.quantile(took, 0.99)) / 1e9


def work_of(path: Path, fed: Mapping[str, Array], precision: Precision) -> Work:
    """Counted with the shapes that ONNX Runtime finds on its way through the network as it is built for TensorRT."""
    import onnx

    from engines.precision import prepare

    model = onnx.load_from_string(prepare(path, "fp32").reference)
    weights = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    products = [node for node in model.graph.node if node.op_type in ("Conv", "MatMul", "Gemm")]
    outputs = {output.name for output in model.graph.output}
    inner = {name for node in products for name in (*node.output, node.input[0])} - outputs - set(fed) - set(weights)
    for name in sorted(inner):
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    found = OrtEngine(path, content=model.SerializeToString()).infer(fed)
    shapes = {**{name: array.shape for name, array in (*found.items(), *fed.items())}, **weights}
    flops = 0.0
    for node in products:
        long = np.prod(shapes[node.input[1]][1:]) if node.op_type == "Conv" else shapes[node.input[0]][-1]
        flops += 2.0 * float(np.prod(shapes[node.output[0]])) * float(long)
    width = {"fp32": 4, "fp16": 2, "int8": 1}[precision]
    moved = sum(array.nbytes for array in fed.values()) + sum(found[name].nbytes for name in outputs)
    used = {name for node in products for name in node.input} & set(weights)
    return Work(flops, moved + width * sum(float(np.prod(weights[name])) for name in used))


def measured_rates(way: Way, folder: Path) -> Rates:
    """By three networks: one that all but only multiplies, one that all but only reads, and one that does nothing."""
    side, deep, wide = 1024, 64 if way.gpu else 2, 16_384  # enough to outweigh a call, no more than a processor bears
    multiply = _network(folder / f"multiply{deep}.onnx", [(side, side)] * deep, rows=side)
    read = _network(folder / "read.onnx", [(side * 4, wide)], rows=1)
    nothing = _network(folder / "nothing.onnx", [(4, 4)], rows=1)
    took = {}
    for path, length in ((multiply, side), (read, side * 4), (nothing, 4)):
        engine = way.open(path)
        took[path], _ = timed(engine, {"x": np.full((1, length), 1e-3, np.float32)}, runs=5)
        engine.close()
    width = 2 if way.precision == "fp16" else 4
    call = took[nothing]
    flops = 2.0 * deep * side**3 / max(took[multiply] - call, 1e-9)
    return Rates(flops, width * side * 4 * wide / max(took[read] - call, 1e-9), call)


def _network(path: Path, weights: Sequence[tuple[int, int]], *, rows: int) -> Path:
    """X (1, n), stretched to `rows`, through one matrix after the other; of the result the mean of the rows."""
    if path.exists():
        return path
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(0)
    initializers = [numpy_helper.from_array(np.array([rows, 1], np.int64), "rows")]
    nodes, last = [helper.make_node("Tile", ["x", "rows"], ["h"])], "h"
    for i, (n, m) in enumerate(weights):
        values = (random.standard_normal((n, m), np.float32) / np.sqrt(n)).astype(np.float32)
        initializers.append(numpy_helper.from_array(values, f"w{i}"))
        nodes.append(helper.make_node("MatMul", [last, f"w{i}"], [f"h{i}"]))
        last = f"h{i}"
    nodes.append(helper.make_node("ReduceMean", [last], ["y"], axes=[0, 1], keepdims=1))
    graph = helper.make_graph(
        nodes,
        "rate",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, weights[0][0]])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1])],
        initializers,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def as_json(found: Sequence[Figures]) -> list[dict[str, Any]]:
    """For files."""
    return [asdict(figures) for figures in found]
