"""Many calls, for `tests.test_pycuda`."""

import os
from pathlib import Path

import numpy as np

from engines.placement import Deployment
from tests.driver.standin import Kind, StandIn, built
from tests.engine_contract import WEIGHT

CALLS = 10_000


def test_ten_thousand_calls_leave_nothing_behind(driver: StandIn, deployment: Deployment) -> None:
    engine = built(deployment, shapes=2)
    inputs = [np.random.default_rng(n).random((1, n, 4), np.float32) for n in (1, 2, 3, 1, 1)]

    def run(n: int) -> int:
        for i in range(n):
            x = inputs[i % len(inputs)]
            np.testing.assert_allclose(engine.infer({"x": x})["y"], x @ WEIGHT, rtol=1e-5)
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    before, alive = run(1_000), driver.alive()
    assert run(CALLS) - before < 8 << 20
    assert driver.alive() == alive
    assert alive.get(Kind.EXECUTABLE, 0) <= 2
    assert Kind.GRAPH not in alive
    engine.close()
    assert driver.alive() == {}
