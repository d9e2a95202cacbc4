import asyncio
import itertools
import threading
from collections.abc import Callable, Sequence

import pytest

from agent.clock import RealClock
from agent.live import LiveAgent
from agent.seams import SensorError
from agent.types import Absence, Decision, Modality, Reading, Sample, Watermark
from tests.samples import audio, frame
from tests.scripted import HOP_NS, SOURCES, ScriptedEncoder, ScriptedSensor, Steps, happy, pipeline

VISION, AUDIO, TEXT = Modality
CAMERA, MICROPHONE, MESSAGES = SOURCES
CLOCK = RealClock()


def frames(count: int | None = None) -> Callable[[], Steps]:
    """Four frames a hop, as a camera delivers them; without a count for ever."""

    async def run() -> Steps:
        for _ in range(count) if count else itertools.count():
            await CLOCK.sleep_until(CLOCK.now_ns() + HOP_NS // 4)
            yield frame(CLOCK.now_ns())

    return run


def blocks(count: int | None = None, *, until: asyncio.Event | None = None) -> Callable[[], Steps]:
    """Four blocks of sound a hop; then the end. Those ``until`` an event end with an error."""

    async def run() -> Steps:
        t_ns = CLOCK.now_ns()
        for _ in range(count) if count else itertools.count():
            if until and until.is_set():
                raise SensorError("unplugged")
            end_ns = t_ns + HOP_NS // 4
            await CLOCK.sleep_until(end_ns)
            yield audio(t_ns, end_ns)
            t_ns = end_ns

    return run


def heartbeats(count: int | None = None) -> Callable[[], Steps]:
    async def run() -> Steps:
        for _ in range(count) if count else itertools.count():
            await CLOCK.sleep_until(CLOCK.now_ns() + HOP_NS // 4)
            yield Watermark("text", CLOCK.now_ns())

    return run


def hangs(count: int) -> Callable[[], Steps]:
    """A few frames, then nothing, for ever."""

    async def run() -> Steps:
        async for item in frames(count)():
            yield item
        await asyncio.Event().wait()

    return run


async def lived(sensors: Sequence[ScriptedSensor], *encoders: ScriptedEncoder) -> tuple[list[Decision], LiveAgent]:
    p = pipeline(CLOCK, *encoders)
    found: list[Decision] = []
    agent = LiveAgent(p, sensors=sensors, clock=CLOCK, sinks=[found.append])
    try:
        await agent.run()
    finally:
        p.close()
    return found, agent


async def test_it_decides_each_hop_soon_after_its_end_and_ends_with_its_sensors() -> None:
    sensors = [
        ScriptedSensor("camera", CAMERA, frames(24)),
        ScriptedSensor("text", MESSAGES, heartbeats(24)),
        ScriptedSensor("microphone", MICROPHONE, blocks(24)),
    ]
    found, agent = await lived(sensors, ScriptedEncoder(VISION, happy), ScriptedEncoder(AUDIO, happy))
    ends = [decision.end_ns for decision in found]
    passed_over = (ends[-1] - ends[0]) // HOP_NS + 1 - len(ends)
    assert ends == sorted(set(ends))
    assert all(end % HOP_NS == 0 for end in ends)
    assert passed_over <= agent._metrics.counts["windows_skipped"]  # none on a machine that has the time
    assert [decision.seq for decision in found] == list(range(len(found)))
    assert "happy" in [decision.label for decision in found]


async def lived_until(
    sensors: Sequence[ScriptedSensor], *encoders: ScriptedEncoder, wanted: Callable[[Decision], bool]
) -> list[Decision]:
    """All decisions up to and with the first that is wanted: a loaded machine may take its time for that."""
    p = pipeline(CLOCK, *encoders)
    found: list[Decision] = []
    enough = asyncio.Event()

    def sink(decision: Decision) -> None:
        if not enough.is_set():
            found.append(decision)
            if wanted(decision):
                enough.set()

    task = asyncio.create_task(LiveAgent(p, sensors=sensors, clock=CLOCK, sinks=[sink]).run())
    try:
        async with asyncio.timeout(60):
            await enough.wait()
    finally:
        task.cancel()
        await asyncio.wait([task])
        p.close()
    return found


async def test_a_source_that_stalls_costs_the_lateness_and_is_named() -> None:
    def without_camera(decision: Decision) -> bool:
        return decision.missing.get(VISION) is Absence.LATE and AUDIO in decision.modalities

    found = await lived_until(
        [
            ScriptedSensor("camera", CAMERA, hangs(6)),
            ScriptedSensor("text", MESSAGES, heartbeats()),
            ScriptedSensor("microphone", MICROPHONE, blocks()),
        ],
        ScriptedEncoder(VISION, happy),
        ScriptedEncoder(AUDIO, happy),
        wanted=lambda decision: without_camera(decision) and decision.latency.align < HOP_NS * 3,
    )
    assert all(decision.latency.align >= HOP_NS // 2 for decision in found if without_camera(decision))


async def test_a_source_that_fails_costs_nothing_is_named_and_comes_back() -> None:
    heard, missed = asyncio.Event(), asyncio.Event()

    def look(decision: Decision) -> bool:
        if AUDIO in decision.modalities:
            heard.set()
        elif (
            decision.missing[AUDIO] is Absence.FAILED
            and VISION in decision.modalities
            and decision.latency.align < HOP_NS // 2  # less than what a source that is late would have cost
        ):
            missed.set()
        return missed.is_set() and AUDIO in decision.modalities

    async def back_once_missed() -> Steps:
        if not missed.is_set():
            raise SensorError("still unplugged")
        async for item in blocks()():
            yield item

    await lived_until(
        [
            ScriptedSensor("camera", CAMERA, frames()),
            ScriptedSensor("text", MESSAGES, heartbeats()),
            ScriptedSensor("microphone", MICROPHONE, blocks(until=heard), *[back_once_missed] * 20),
        ],
        ScriptedEncoder(VISION, happy),
        ScriptedEncoder(AUDIO, happy),
        wanted=look,
    )


async def test_under_overload_windows_are_skipped_and_the_age_stays_bounded() -> None:
    slow_s = 2.5 * HOP_NS / 1e9

    def slow(samples: Sequence[Sample]) -> Reading:
        threading.Event().wait(slow_s)  # an encoder that takes two and a half hops
        return happy(samples)

    sensors = [ScriptedSensor("camera", CAMERA, frames(60)), ScriptedSensor("text", MESSAGES, heartbeats(60))]
    found, agent = await lived(sensors, ScriptedEncoder(VISION, slow))
    assert [decision.seq for decision in found] == list(range(len(found)))
    assert agent._metrics.counts["windows_skipped"] >= len(found) / 2
    ages = [decision.latency.total for decision in found]
    half = len(ages) // 2
    assert max(ages[half:]) < 2 * max(ages[:half]) + HOP_NS, "the age must not grow"


async def test_a_bug_in_a_sensor_ends_the_agent() -> None:
    async def buggy() -> Steps:
        yield frame(CLOCK.now_ns())
        raise ZeroDivisionError

    with pytest.raises(ExceptionGroup) as caught:
        await lived([ScriptedSensor("camera", CAMERA, buggy)], ScriptedEncoder(VISION, happy))
    assert caught.group_contains(ZeroDivisionError)
