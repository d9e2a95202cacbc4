"""What several files of tests run against: a sound server, and brokers of each kind."""

import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from agent.mqtt.broker import EmbeddedBroker
from tests.mosquitto import free_port, mosquitto
from tests.pulse import Pulse, sound_server


@pytest.fixture(autouse=True)
def state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A state folder of the test's own: no event waits there that another one put down."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.fixture(autouse=True)
def log_level() -> Iterator[None]:
    """What a verb that runs in this process sets as the level of the log is over with the test."""
    root = logging.getLogger()
    level = root.level
    yield
    root.setLevel(level)


@pytest.fixture(scope="module")
def pulse() -> Iterator[Pulse]:
    """A sound server of the module's own, to which this process is pointed."""
    with sound_server() as server:
        yield server


@pytest.fixture(params=["embedded", "mosquitto"])
async def broker(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    """The address of a broker of each kind."""
    port = free_port()
    if request.param == "embedded":
        async with EmbeddedBroker(port):
            yield f"embedded:{port}"
    else:
        async with mosquitto(port, tmp_path):
            yield f"mqtt://127.0.0.1:{port}"
