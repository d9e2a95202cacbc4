"""The wall clock is set, by seconds and by days, while an agent runs: what that does to published times."""

from itertools import pairwise
from pathlib import Path

import pytest

from agent.clock import MS, SECOND, WallClock
from tests.mosquitto import free_port, mosquitto
from tests.outside import Watcher, agent, watching

DAY_S = 24 * 3600
WALL_NS = 1_795_255_200 * SECOND


@pytest.mark.parametrize("step_s", [5, -5, 60, -60, DAY_S, -DAY_S])
def test_published_time_never_runs_backwards_but_where_that_is_flagged(step_s: int) -> None:
    wall = WallClock(tolerance_ns=MS)
    told: list[int] = []
    for second in range(180):
        mono_ns = second * SECOND
        wall.calibrate(mono_ns, WALL_NS + mono_ns + (step_s * SECOND if second >= 60 else 0))
        told += [wall.wall_ns(mono_ns), wall.wall_ns(mono_ns + SECOND // 2)]
    falls = sum(after < before for before, after in pairwise(told))
    assert falls == wall.steps_back == (step_s == -DAY_S)
    assert told[119] == WALL_NS + 59 * SECOND + SECOND // 2
    assert told[-1] == WALL_NS + 179 * SECOND + SECOND // 2 + step_s * SECOND, "it has caught up"


@pytest.fixture
def faked(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """The file that sets the wall clock of one process, and the environment in which that heeds it."""
    places = ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib")
    libraries = [path for place in places if (path := Path(place, "faketime", "libfaketimeMT.so.1")).exists()]
    assert libraries, "faketime is not installed; `make test` installs it where it may"
    file = tmp_path / "clock"
    file.write_text("+0")
    return file, {
        "LD_PRELOAD": str(libraries[0]),
        "FAKETIME_TIMESTAMP_FILE": str(file),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }


async def test_a_running_agent_goes_on_under_steps_of_seconds_and_of_a_day(
    faked: tuple[Path, dict[str, str]], tmp_path: Path
) -> None:
    """The real program, its wall clock set by libfaketime; what it publishes is read from the broker."""
    clock, env = faked
    port = free_port()
    config = tmp_path / "config.toml"
    config.write_text(
        f"""
        [agent]
        node = "clocked"
        [sensors.chat]
        kind = "text"
        [mqtt]
        broker = "mqtt://127.0.0.1:{port}"
        metrics_every = "1 s"
        [privacy]
        purpose = "demonstration"
        """
    )
    async with mosquitto(port, tmp_path), watching(port) as watcher, agent("--config", str(config), env=env):
        begin_ns = await shown(watcher)
        for step_s, lands_s in ((5, 5), (0, 0), (DAY_S, DAY_S), (0, 0)):
            clock.write_text(f"+{step_s}")
            await watcher.until_decision(
                lambda decision, s=lands_s: abs(end_ns(decision) - begin_ns - s * SECOND) < 60 * SECOND,  # type: ignore[misc]
                after=len(watcher.seen),
            )
            known = len(watcher.seen)
            await watcher.until_decision(lambda decision: True, after=known)
        counts = await watcher.until(
            lambda m: m.topic.endswith("/metrics") and m.json["counts"].get("wall_clock.steps_back", 0) > 0
        )
    assert counts.json["counts"]["wall_clock.steps_back"] == 1, "the step of a day back; that of 5 s is waited out"
    ends = [end_ns(decision) for decision in watcher.decisions()]
    falls = [before - after for before, after in pairwise(ends) if after < before]
    assert len(falls) == 1
    assert falls[0] == pytest.approx(DAY_S * SECOND, abs=60 * SECOND)
    seqs = [decision["seq"] for decision in watcher.decisions()]
    assert seqs == sorted(set(seqs))


async def shown(watcher: Watcher) -> int:
    """The end of the first decision's window."""
    return end_ns(await watcher.until_decision(lambda decision: True))


def end_ns(decision: dict[str, dict[str, str]]) -> int:
    return int(decision["window"]["end_ns"])
