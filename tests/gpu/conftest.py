"""What the tests on a real GPU share: its TensorRT, and what real windows feed each network."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.config import Config
from engines import Precision
from engines.models import ModelStore
from engines.placement import Deployment
from engines.plan_builder import Kept, calibrate, recorded
from engines.platforms import Platform, find_platform
from engines.trt import TrtEngine
from sensors.session import open_session
from tests.outside import ROOT


@pytest.fixture(scope="session")
def platform() -> Platform:
    """Raises `engines.EngineError` where there is none: whoever asks for these tests has one."""
    return find_platform()


@pytest.fixture(scope="session")
def fed() -> dict[str, Kept]:
    """By the stem of the model's file, inputs from the bundled session."""
    return recorded(Config(), ModelStore(), open_session(ROOT / "sensors" / "demo").events())


@pytest.fixture(scope="session")
def plans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of plans for these tests, with what int8 is fitted to."""
    store = ModelStore()
    folder = tmp_path_factory.mktemp("cache")
    store.cache, cache = folder, store.cache
    for file in cache.iterdir():
        if file.is_file():
            (folder / file.name).symlink_to(file)
    calibrate(Config(), store, open_session(ROOT / "sensors" / "demo").events())
    return folder / "plans"


@pytest.fixture(scope="session")
def figures() -> Iterator[list[dict[str, object]]]:
    """What the tests measured, one JSON object a line at the end."""
    found: list[dict[str, object]] = []
    yield found
    print()
    for each in found:
        print("FIGURE", json.dumps(each))


def opened(platform: Platform, plans: Path, name: str, precision: Precision, *, graphs: bool = True) -> TrtEngine:
    """The engine of a model of the lock file, from a plan that is built where it is missing."""
    deployment = Deployment.of(ModelStore().path(name), platform, precision=precision, plans=plans)
    deployment.open_or_build(stop=threading.Event(), say=lambda step: None).close()
    stored = deployment.cache.load(deployment.key)
    assert stored
    return deployment.opened(stored, graphs=graphs)
