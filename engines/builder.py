"""Building plans, in a process of their own: a builder takes minutes and gigabytes, and some end the process.

``python -m engines.builder REQUEST`` builds what the request, as JSON, asks for, and says on standard output, a JSON
object a line, what it does (``step``) and in the end where the plan lies (``plan``) or why there is none (``error``).
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from engines import Array, EngineError, Tensor, rtx
from engines.bindings import Bindings, Complaints, Parser, Profile, load_bindings, shared_logger
from engines.bindings import Tensor as NetworkTensor
from engines.plans import Axes, PlanCache, PlanKey, StoredPlan

WORKSPACE = 1 << 29
"""Bytes of device memory that building and running one plan may use."""
NICENESS = 15
_PR_SET_PDEATHSIG = 1


def main(arguments: Sequence[str], bindings: Callable[[], tuple[str, Bindings]] = load_bindings) -> int:
    """Build what ``arguments[0]`` asks for; 0 when there is a plan."""
    _end_with_parent()
    os.nice(NICENESS)
    request = json.loads(arguments[0])
    key = PlanKey(**request["key"] | {"axes": {a: tuple(n) for a, n in request["key"]["axes"].items()}})
    calibration = Path(request["calibration"]) if request["calibration"] else None
    cache = PlanCache(Path(request["folder"]))
    try:
        found = _wanted(key, *bindings())
        with cache.lock(key):
            path = cache.path(key) if cache.load(key) else None  # another process may have built it meanwhile
            if path is None:
                stored = make(Path(request["model"]), key, found, calibration=calibration, step=_tell_step)
                path = _keep(cache, stored)
    except EngineError as error:
        _tell(error=str(error))
        return 1
    _tell(plan=str(path))
    return 0


def _wanted(key: PlanKey, flavour: str, bindings: Bindings) -> Bindings:
    found = f"{flavour} {bindings.__version__}"
    if found != f"{key.flavour} {key.version}":
        raise EngineError(f"{key.model}: {key.flavour} {key.version} was asked for, here is {found}")
    return bindings


def request(model: Path, key: PlanKey, folder: Path, calibration: Path | None = None) -> str:
    """What `main` is to be told."""
    return json.dumps(
        {
            "model": str(model),
            "key": asdict(key),
            "folder": str(folder),
            "calibration": str(calibration) if calibration else None,
        }
    )


def make(
    model: Path, key: PlanKey, bindings: Bindings, *, calibration: Path | None, step: Callable[[str], None]
) -> StoredPlan:
    """The plan for the ONNX file `model`, with a stored input and ONNX Runtime's answer to it. Raises `EngineError`."""
    from engines.ort import OrtEngine
    from engines.precision import prepare

    step(f"preparing {key.precision}")
    prepared = prepare(model, key.precision, calibration, convolutions=key.flavour != rtx.FLAVOUR, step=step)
    engine = OrtEngine(model, content=prepared.reference)
    try:
        held = prepared.held
        fed = held[len(held) // 2] if held else probe(engine.inputs, key.axes)
        expected = engine.infer(fed)
        step("compiling")
        plan = build(bindings, prepared.model, name=key.model, axes=key.axes, flavour=key.flavour)
        return StoredPlan(key, engine.inputs, engine.outputs, fed, expected, plan)
    finally:
        engine.close()


def probe(inputs: Sequence[Tensor], axes: Axes) -> dict[str, Array]:
    """An input of the usual lengths, the same every time: noise in 0..1, small numbers for tokens, masks all on."""
    random = np.random.default_rng(0)
    fed: dict[str, Array] = {}
    for tensor in inputs:
        shape = tuple(n if isinstance(n, int) else axes[n][1] if n in axes else 1 for n in tensor.shape)
        if tensor.dtype.kind == "f":
            fed[tensor.name] = random.random(shape).astype(tensor.dtype)
        elif "mask" in tensor.name:
            fed[tensor.name] = np.ones(shape, tensor.dtype)
        else:
            fed[tensor.name] = random.integers(0, 100, shape).astype(tensor.dtype)
    return fed


def _keep(cache: PlanCache, stored: StoredPlan) -> Path:
    """In the cache; where that cannot be, in a file that whoever asked reads and removes."""
    try:
        return cache.store(stored)
    except EngineError as error:
        _tell_step(f"{error}; it will be built again at the next start")
        try:
            with tempfile.NamedTemporaryFile(prefix="attune-", suffix=".plan", delete=False) as out:
                out.write(stored.to_bytes())
        except OSError as second:
            raise EngineError(f"{error}; nor can it be handed over: {second}") from second
        return Path(out.name)


def _tell_step(step: str) -> None:
    _tell(step=step)


def _tell(**said: str) -> None:
    print(json.dumps(said), flush=True)


def _end_with_parent() -> None:
    """Ask the system to end this process when the one that started it has ended."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "prctl"):
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def build(
    bindings: Bindings, model: bytes, *, name: str, axes: Axes, flavour: str = "tensorrt", workspace: int = WORKSPACE
) -> bytes:
    """The serialised plan of an ONNX model, strongly typed, with one optimisation profile.

    `axes` has the least, usual and greatest length of each axis that is free, by its name in the model; `flavour` is
    that of the `bindings`; `workspace` is the device memory in bytes that building and running may use. Raises
    `EngineError` with the node's name.
    """
    logger, complaints = shared_logger(bindings)
    try:
        builder = bindings.Builder(logger)
    except TypeError as error:  # what the bindings make of no builder at all
        raise EngineError(f"{name}: the builder does not start: {_reason(complaints)}") from error
    network = builder.create_network(1 << int(bindings.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = bindings.OnnxParser(network, logger)
    if not parser.parse(model):
        raise EngineError(f"{name}: {_unsupported(parser)}")
    config = builder.create_builder_config()
    if flavour == rtx.FLAVOUR:
        rtx.require_user_allocation(config, bindings)
    config.set_memory_pool_limit(bindings.MemoryPoolType.WORKSPACE, workspace)
    profile = builder.create_optimization_profile()
    for i in range(network.num_inputs):
        _shape(network.get_input(i), profile, axes, name=name)
    config.add_optimization_profile(profile)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EngineError(
            f'{name}: the builder gave no plan: {_reason(complaints)}; set backend = "onnxruntime" for this encoder'
        )
    return bytes(plan)


def _reason(complaints: Complaints) -> str:
    return "; ".join(complaints.taken()[-3:]) or "no reason is given"


def _unsupported(parser: Parser) -> str:
    errors = [parser.get_error(i) for i in range(parser.num_errors)]
    first = [f"{error.node_operator() or 'graph'} {error.node_name()!r} ({error.desc()})" for error in errors[:3]]
    more = f" and {len(errors) - 3} more" if len(errors) > 3 else ""
    return (
        f"TensorRT cannot read these nodes: {', '.join(first)}{more}; export the model without them, or set"
        ' backend = "onnxruntime" for this encoder'
    )


def _shape(tensor: NetworkTensor, profile: Profile, axes: Axes, *, name: str) -> None:
    shape = tuple(tensor.shape)
    if -1 not in shape:
        return
    ranges = []
    for i, n in enumerate(shape):
        axis = tensor.get_dimension_name(i) if n == -1 else None
        if n == -1 and axis not in axes:
            raise EngineError(
                f"{name}: the axis {axis or i} of its input {tensor.name} {list(shape)} is free, and models.toml says"
                f" nothing of its length; known are {', '.join(axes) or 'none'}; add axes = {{ {axis or 'NAME'} ="
                " [LEAST, USUAL, MOST] } to its entry"
            )
        ranges.append((n, n, n) if axis is None else axes[axis])
    try:
        profile.set_shape(tensor.name, *(tuple(r[i] for r in ranges) for i in range(3)))
    except ValueError as error:
        raise EngineError(f"{name}: the profile of its input {tensor.name} is refused: {error}; {ranges}") from error


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
