import asyncio
from collections.abc import Callable

import pytest

from agent.clock import MS, SECOND, VirtualClock
from agent.health.metrics import Metrics
from agent.seams import SensorError
from agent.supervisor import Backoff, supervise
from agent.types import Sample, Watermark
from agent.window import SourceState
from tests.samples import frame
from tests.scripted import SOURCES, ScriptedSensor, Steps

CAMERA = SOURCES[0]


def fails(message: str, *first: Sample) -> Callable[[], Steps]:
    async def run() -> Steps:
        for sample in first:
            yield sample
        raise SensorError(message)

    return run


def delivers(*samples: Sample) -> Callable[[], Steps]:
    async def run() -> Steps:
        for sample in samples:
            yield sample

    return run


def flaps(clock: VirtualClock, *, after_ns: int) -> Callable[[], Steps]:
    """Delivers twice, so far apart, and fails."""

    async def run() -> Steps:
        yield frame(clock.now_ns())
        clock.advance_to(clock.now_ns() + after_ns)
        yield frame(clock.now_ns())
        raise SensorError("a loose plug")

    return run


async def supervised(
    *runs: Callable[[], Steps],
    clock: VirtualClock | None = None,
) -> tuple[list[Sample | Watermark], list[SourceState], list[int], Metrics]:
    """What a sensor with these runs fed, the states it went through, the instants of its pauses, the metrics."""
    clock, metrics = clock or VirtualClock(), Metrics()
    fed: list[Sample | Watermark] = []
    states: list[SourceState] = []
    pauses: list[int] = []
    task = asyncio.create_task(
        supervise(
            ScriptedSensor("camera", CAMERA, *runs),
            feed=fed.append,
            mark=lambda source, state: states.append(state),
            clock=clock,
            metrics=metrics,
        )
    )
    while not task.done():
        await asyncio.sleep(0)
        if (next_ns := clock.next_ns()) is not None:
            pauses.append(next_ns - clock.now_ns())
            clock.advance_to(next_ns)
    task.result()
    return fed, states, pauses, metrics


async def test_a_sensor_that_fails_is_started_again_until_its_input_ends() -> None:
    fed, states, pauses, metrics = await supervised(
        fails("unplugged", frame(1)), fails("not there"), fails("not there"), delivers(frame(2))
    )
    live, failed, disabled = SourceState.LIVE, SourceState.FAILED, SourceState.DISABLED
    assert [item.end_ns for item in fed if isinstance(item, Sample)] == [1, 2]
    assert states == [live, failed, failed, failed, live, disabled]
    assert metrics.counts["camera.failures"] == 3
    assert len(pauses) == 3


async def test_the_pauses_of_a_sensor_that_flaps_grow() -> None:
    clock = VirtualClock()
    _, states, pauses, _ = await supervised(*[flaps(clock, after_ns=9 * SECOND)] * 6, delivers(), clock=clock)
    for pause_ns, full_ms in zip(pauses, (500, 1000, 2000, 4000, 8000, 16_000), strict=True):
        assert full_ms / 2 <= pause_ns / MS <= full_ms
    assert states[:4] == [SourceState.LIVE, SourceState.FAILED] * 2


async def test_after_ten_seconds_of_delivering_a_failure_counts_as_the_first() -> None:
    clock = VirtualClock()
    flapping, steady = flaps(clock, after_ns=0), flaps(clock, after_ns=10 * SECOND)
    _, _, pauses, _ = await supervised(*[flapping] * 4, steady, flapping, delivers(), clock=clock)
    assert 2000 <= pauses[3] / MS <= 4000
    assert pauses[4] / MS <= 500
    assert 500 <= pauses[5] / MS <= 1000


async def test_the_same_trouble_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    await supervised(
        *[fails("there is no camera 0")] * 4,
        delivers(frame(1)),
    )
    assert caplog.text.count("there is no camera 0") == 1


async def test_a_sensor_that_flaps_is_said_to_and_summed_up_ever_more_seldom(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    clock, flaps_ = VirtualClock(), 400
    _, _, _, metrics = await supervised(*[flaps(clock, after_ns=11 * SECOND)] * flaps_, delivers(frame(1)), clock=clock)
    lines = [record.getMessage() for record in caplog.records]
    failed = [line for line in lines if "trying again" in line]
    assert metrics.counts["camera.failures"] == flaps_
    assert len([line for line in lines if line == "sensor camera delivers"]) in (len(failed), len(failed) + 1)
    assert 5 <= len(failed) <= 8, "at once, and after 1, 2, 4, 8, 16… minutes"
    assert " times in the last " not in failed[0]
    times = [int(line.split("(")[1].split()[0]) for line in failed[1:]]
    assert times == sorted(times)
    assert flaps_ / 2 < 1 + sum(times) <= flaps_
    down = lines.index(failed[-1])
    assert "sensor camera delivers" in lines[down:], "the last that is said is so"


@pytest.mark.parametrize("times", [90, 150, 200])
async def test_a_sensor_that_flaps_and_then_stays_away_is_said_to(times: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    clock, away = VirtualClock(), 12  # for two minutes or more
    flapping = [flaps(clock, after_ns=11 * SECOND)] * times
    await supervised(*flapping, *[fails("a loose plug")] * away, delivers(), clock=clock)
    lines = [record.getMessage() for record in caplog.records]
    assert lines[-1] == "sensor camera has ended"
    assert "trying again" in lines[-2], "and not that it delivers"


async def test_a_bug_in_a_sensor_is_not_taken_for_trouble_with_the_device() -> None:
    async def buggy() -> Steps:
        yield frame(1)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await supervised(buggy)


def test_pauses_double_up_to_the_cap_with_jitter() -> None:
    backoff = Backoff(first_ns=100 * MS, cap_ns=2 * SECOND)
    for full_ms in (100, 200, 400, 800, 1600, 2000, 2000):
        assert full_ms / 2 <= backoff.next_ns() / MS <= full_ms
    backoff.reset()
    assert backoff.next_ns() <= 100 * MS
    assert len({Backoff().next_ns() for _ in range(20)}) > 1
