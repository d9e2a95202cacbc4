"""What `engines.cuda` and `engines.trt` do with the real pycuda on the stand-in; run by `tests.test_pycuda`.

The driver counts what is alive, and fails where it is told to.
"""

import subprocess
import sys
import threading
from collections.abc import Callable

import numpy as np
import pytest

from engines import Engine, EngineError, Placement, open_engine
from engines.gpu import missing_gpu
from engines.placement import Deployment
from engines.platforms import find_platform
from engines.swap import SwappingEngine
from engines.trt import TrtEngine
from tests.driver.standin import ILLEGAL_ADDRESS, ONES, OUT_OF_MEMORY, StandIn, built, gives
from tests.engine_contract import CONTRACT, WEIGHT
from tests.outside import ROOT


def test_the_device_is_found_by_the_driver_alone(driver: StandIn) -> None:
    assert missing_gpu() is None
    assert str(find_platform()).endswith("on Stand-in (SM 8.6)")


@pytest.mark.parametrize("law", CONTRACT, ids=lambda law: law.__name__)
def test_the_engine_keeps_the_contract(driver: StandIn, deployment: Deployment, law: Callable[[Engine], None]) -> None:
    engine = built(deployment)
    law(engine)
    gives(engine)
    engine.close()


def test_made_used_and_closed_by_three_threads(driver: StandIn, deployment: Deployment) -> None:
    made: list[TrtEngine] = []
    depths: list[int] = []

    def make() -> None:
        made.append(built(deployment))
        depths.append(driver.depth)

    def use() -> None:
        gives(made[0])
        depths.append(driver.depth)

    def close() -> None:
        made[0].close()
        depths.append(driver.depth)

    for work in (make, use, close):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert depths == [0, 0, 0]
    assert driver.alive() == {}


def test_two_engines_in_two_threads_keep_apart(driver: StandIn, deployment: Deployment) -> None:
    engines = [built(deployment) for _ in range(2)]
    done: list[int] = []

    def run(engine: TrtEngine, sign: int) -> None:
        for n in range(300):
            x = np.full((1, 1 + n % 3, 4), float(sign * n), np.float32)
            np.testing.assert_allclose(engine.infer({"x": x})["y"], x @ WEIGHT, rtol=1e-6)
        done.append(sign)

    threads = [threading.Thread(target=run, args=each) for each in zip(engines, (1, -1), strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == [-1, 1]
    for engine in engines:
        engine.close()


@pytest.mark.parametrize(
    ("function", "calls"), [("cuMemAlloc", 3), ("cuMemHostAlloc", 2), ("cuStreamCreate", 1), ("cuCtxPushCurrent", 1)]
)
def test_whatever_fails_on_the_way_up_is_said_and_all_before_it_given_back(
    driver: StandIn, deployment: Deployment, function: str, calls: int
) -> None:
    built(deployment).close()
    said = r"linear: tensorrt 10\.0\.fake on Stand-in \(SM 8\.6\) cannot take it in: .*out of memory"
    for after in range(calls):
        driver.fail(function, OUT_OF_MEMORY, after=after)
        with pytest.raises(EngineError, match=said) as error:
            built(deployment)
        assert (driver.alive(), driver.depth) == ({}, 0), f"with the error still at hand: {error}"
    engine = built(deployment)
    gives(engine)
    engine.close()


def test_made_in_a_thread_and_failed_there(driver: StandIn, deployment: Deployment) -> None:
    """The error, which holds on to what was being made, is let go of by another thread."""
    built(deployment).close()
    errors: list[EngineError] = []

    def make() -> None:
        driver.fail("cuMemHostAlloc", OUT_OF_MEMORY, after=1)
        try:
            built(deployment)
        except EngineError as error:
            errors.append(error)

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    assert len(errors) == 1
    errors.clear()


@pytest.mark.parametrize(
    "function", ["cuMemcpyHtoDAsync", "cuMemcpyDtoHAsync", "cuStreamSynchronize", "cuCtxPushCurrent"]
)
def test_a_call_that_fails_is_an_engine_error_and_the_next_one_answers(
    driver: StandIn, deployment: Deployment, function: str
) -> None:
    engine = built(deployment, graphs=False)
    gives(engine)
    driver.fail(function, OUT_OF_MEMORY)
    with pytest.raises(EngineError, match=r"failed on inputs of shape \{'x': \[1, 1, 4\]\}: .*out of memory"):
        engine.infer(ONES)
    gives(engine)
    engine.close()


def test_a_call_that_fails_half_way_leaves_nothing_under_way(driver: StandIn, deployment: Deployment) -> None:
    """What it had put into the stream is over before memory and contexts are given back."""
    for graphs in (True, False):
        engine = built(deployment, graphs=graphs)
        driver.fail("cuMemcpyDtoHAsync", OUT_OF_MEMORY)
        with pytest.raises(EngineError, match="cuMemcpyDtoHAsync failed: out of memory"):
            engine.infer(ONES)
        engine.close()


def test_a_device_on_which_a_kernel_went_astray(driver: StandIn, deployment: Deployment) -> None:
    """It answers nothing any more, takes nothing back, and lets the process go on."""
    engine = built(deployment)
    gives(engine)
    alive = driver.alive()
    driver.broken(ILLEGAL_ADDRESS)
    for _ in range(3):
        with pytest.raises(EngineError, match="an illegal memory access was encountered"):
            engine.infer(ONES)
    with pytest.raises(EngineError, match=r"cannot take it in: .* illegal memory access"):
        built(deployment)
    assert driver.depth == 0
    driver.broken(0)
    assert driver.alive() == alive
    engine.close()


def test_closing_on_such_a_device_is_said(driver: StandIn, deployment: Deployment) -> None:
    engine = built(deployment)
    gives(engine)
    driver.broken(ILLEGAL_ADDRESS)
    with pytest.raises(EngineError, match=r"does not let go of it: .* illegal memory access"):
        engine.close()
    assert driver.depth == 0
    driver.forget()


def test_what_was_put_into_a_stream_is_done_when_somebody_waits_for_it(driver: StandIn, deployment: Deployment) -> None:
    gpu = deployment.platform.gpu
    with gpu.current():
        stream, buffer = gpu.stream(), gpu.buffer(1 << 20)
        buffer.host[:] = 7
        stream.upload(buffer, 1 << 20)
        stream.synchronize()
        buffer.host[:] = 8
        stream.download(buffer, 1 << 19)
        assert buffer.host[0] == 8
        stream.synchronize()
        assert (int(buffer.host[(1 << 19) - 1]), int(buffer.host[1 << 19])) == (7, 8)
        stream.close()
        buffer.close()


def asked(deployment: Deployment) -> SwappingEngine:
    wanted = Placement("auto", plans=deployment.cache.folder, live=True, precision="fp32")
    engine = open_engine(deployment.model, wanted)
    assert isinstance(engine, SwappingEngine)
    return engine


def test_a_live_engine_changes_over_and_back_when_the_device_fails(
    driver: StandIn, deployment: Deployment, caplog: pytest.LogCaptureFixture
) -> None:
    """The plan comes from a builder's process of its own; the engine is made in a thread and used in another."""
    engine = asked(deployment)
    assert engine.backend == "onnxruntime"
    gives(engine)
    assert engine.settled(60)
    gives(engine)
    assert engine.backend == "tensorrt"
    driver.fail("cuStreamSynchronize", ILLEGAL_ADDRESS)
    gives(engine)
    assert engine.backend == "onnxruntime"
    assert "linear.onnx: back on onnxruntime, because" in caplog.text
    engine.close()


OPENED = """
import ctypes, sys, threading
from pathlib import Path
import numpy as np
from engines import EngineError, Placement, open_engine, placement
placement.axes_of = lambda file: {"batch": (1, 2, 4), "length": (1, 3, 8)}
wanted = Placement("tensorrt", plans=Path(sys.argv[2]), precision="fp32")
engine = open_engine(Path(sys.argv[1]), wanted)
def infer():
    try:
        print(engine.infer({"x": np.ones((1, 1, 4), np.float32)})["y"].shape)
    except EngineError as error:
        print(error)
"""


def ended(deployment: Deployment, script: str) -> tuple[str, str, int]:
    """What a process with an open engine wrote, and its exit status."""
    command = [sys.executable, "-c", OPENED + script, str(deployment.model), str(deployment.cache.folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    return done.stdout, done.stderr, done.returncode


def test_a_process_that_ends_without_closing_ends_well(deployment: Deployment) -> None:
    assert ended(deployment, "infer()") == ("(1, 1, 3)\n", "", 0)


def test_a_context_that_cannot_be_left_does_not_end_the_process(deployment: Deployment) -> None:
    """As pycuda would, at the end of a thread with a context on its stack."""
    script = """
inside, leaving, said = threading.Barrier(3), threading.Barrier(3), []
gpu = placement.find_platform().gpu
def hold():
    try:
        with gpu.current():
            inside.wait()
            leaving.wait()
    except gpu.errors as error:
        said.append(str(error))
holders = [threading.Thread(target=hold) for _ in range(2)]
for holder in holders:
    holder.start()
inside.wait()
ctypes.CDLL("libcuda.so.1").standin_fail(b"cuCtxPopCurrent", 0, 1_000, 700)
leaving.wait()
for holder in holders:
    holder.join()
for line in said:
    print(line)
infer()
"""
    out, complaints, status = ended(deployment, script)
    assert status == 0, complaints
    failed = "cuCtxPopCurrent failed: an illegal memory access was encountered"
    given_up = "the context of Stand-in (SM 8.6) was given up, because it could not be left"
    assert out.splitlines()[:2] == [failed, failed]
    assert out.splitlines()[2].endswith(given_up)
