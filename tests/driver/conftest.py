"""The driver, which nothing may be left in, and a small model placed on it."""

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

from engines import placement
from engines.placement import Deployment
from engines.platforms import find_platform
from tests.driver.standin import StandIn
from tests.engine_contract import linear


@pytest.fixture
def driver() -> Iterator[StandIn]:
    """Nothing of the test's is alive behind it, nor is a context left on the thread."""
    found = StandIn()
    assert found.alive() == {}
    yield found
    faults = found.pending
    found.fail("", 0)
    found.broken(0)
    gc.collect()
    assert not faults
    assert (found.alive(), found.depth) == ({}, 0)


@pytest.fixture
def deployment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Deployment:
    monkeypatch.setattr(placement, "axes_of", lambda file: {"batch": (1, 2, 4), "length": (1, 3, 8)})
    return Deployment.of(linear(tmp_path / "linear.onnx"), find_platform(), precision="fp32", plans=tmp_path / "plans")
