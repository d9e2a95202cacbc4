"""What `engines.cuda` does with the graphs of the real cuda-bindings, on the stand-in; run by `tests.test_pycuda`."""

import pytest

from engines import EngineError
from engines.placement import Deployment
from tests.driver.standin import CAPTURE_INVALIDATED, ONES, OUT_OF_MEMORY, Kind, StandIn, built, gives


def test_a_shape_is_launched_as_a_graph_from_its_second_call_on(driver: StandIn, deployment: Deployment) -> None:
    engine = built(deployment)
    gives(engine, 1)
    assert (engine.graphs, driver.alive().get(Kind.EXECUTABLE)) == (0, None)
    gives(engine, 5)
    assert (engine.graphs, driver.alive()[Kind.EXECUTABLE]) == (1, 1)
    engine.close()


def test_a_launch_that_fails_is_an_engine_error_and_the_next_one_answers(
    driver: StandIn, deployment: Deployment
) -> None:
    engine = built(deployment)
    for _ in range(2):
        engine.infer(ONES)
    driver.fail("cuGraphLaunch", OUT_OF_MEMORY)
    with pytest.raises(EngineError, match=r"failed on inputs of shape .*: CUDA_ERROR_OUT_OF_MEMORY: out of memory"):
        engine.infer(ONES)
    gives(engine)
    engine.close()


@pytest.mark.parametrize("function", ["cuStreamBeginCapture", "cuStreamEndCapture", "cuGraphInstantiateWithFlags"])
def test_a_graph_that_cannot_be_had_is_said_once_and_done_without(
    driver: StandIn, deployment: Deployment, function: str, caplog: pytest.LogCaptureFixture
) -> None:
    engine = built(deployment)
    driver.fail(function, CAPTURE_INVALIDATED)
    gives(engine, 5)
    assert engine.graphs == 0
    said = "cannot be recorded as a CUDA graph, so every call is enqueued anew: CUDA_ERROR_STREAM_CAPTURE_INVALIDATED"
    assert caplog.text.count(said) == 1
    engine.close()


def test_what_a_capture_forbids_spoils_it_and_nothing_else(driver: StandIn, deployment: Deployment) -> None:
    gpu = deployment.platform.gpu
    with gpu.current():
        stream = gpu.stream()
        buffer = gpu.buffer(64)
        with pytest.raises(gpu.errors, match="cuMemAlloc failed"):
            stream.capture(lambda: gpu.memory(16).close())
        with pytest.raises(RuntimeError, match="of the work's own"):
            stream.capture(lambda: _raise(RuntimeError("of the work's own")))
        assert Kind.GRAPH not in driver.alive()
        buffer.host[:] = 1

        def work() -> None:
            stream.upload(buffer, 64)
            stream.download(buffer, 32)

        graph = stream.capture(work)
        assert graph
        stream.synchronize()
        graph.launch()
        buffer.host[32:] = 2
        stream.synchronize()
        assert buffer.host.tolist() == [1] * 32 + [2] * 32
        graph.close()
        buffer.close()
        stream.close()


def _raise(error: Exception) -> None:
    raise error
