import asyncio
import json
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import aiomqtt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.assembly import Agent
from agent.clock import MS, SECOND, RealClock, VirtualClock, WallClock, rfc3339
from agent.config import Config
from agent.types import Modality, Source, Watermark
from tests.mosquitto import free_port
from tests.scripted import ScriptedEncoder, ScriptedSensor, Steps, silent

MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
NOON = 1_795_000_000 * SECOND


def calibrated(*pairs: tuple[int, int]) -> WallClock:
    wall = WallClock()
    for mono_ns, wall_ns in pairs:
        wall.calibrate(mono_ns, wall_ns)
    return wall


def test_wall_clock_must_be_calibrated_first() -> None:
    with pytest.raises(LookupError, match="calibrate"):
        WallClock().wall_ns(0)


def test_instants_before_and_after_the_first_calibration_share_its_offset() -> None:
    wall = calibrated((10, NOON))
    assert [wall.wall_ns(t) for t in (0, 10, 25)] == [NOON - 10, NOON, NOON + 15]


def test_forward_step_holds_from_its_instant_on() -> None:
    wall = calibrated((0, NOON), (10 * SECOND, NOON + 10 * SECOND + HOUR))
    assert wall.wall_ns(10 * SECOND - 1) == NOON + 10 * SECOND - 1
    assert wall.wall_ns(10 * SECOND) == NOON + 10 * SECOND + HOUR


def test_after_a_backward_step_time_stands_still_until_the_wall_clock_has_caught_up() -> None:
    wall = calibrated((0, NOON), (10 * SECOND, NOON + 5 * SECOND))
    assert wall.wall_ns(10 * SECOND) == NOON + 10 * SECOND
    assert wall.wall_ns(14 * SECOND) == NOON + 10 * SECOND
    assert wall.wall_ns(16 * SECOND) == NOON + 11 * SECOND
    assert wall.steps_back == 0


def test_time_stands_still_at_what_was_said_last() -> None:
    wall = calibrated((0, NOON))
    before = wall.wall_ns(10 * SECOND)
    wall.calibrate(10 * SECOND, NOON + 5 * SECOND)
    assert [wall.wall_ns(t * SECOND) - before for t in (10, 11, 15, 16)] == [0, 0, 0, SECOND]


def test_a_clock_that_shows_less_than_was_said_at_the_last_is_true_at_once_where_nobody_asked() -> None:
    r"""The case of \psi's own test: said up to 102, then set back from 200 to 150; what lies between is 150 at most."""
    wall = calibrated((0, NOON))
    assert wall.wall_ns(102) == NOON + 102
    wall.calibrate(200, NOON + 150)
    assert [wall.wall_ns(t) - NOON for t in (102, 149, 150, 151, 199, 200, 201)] == [102, 149, 150, 150, 150, 150, 151]


def test_two_steps_back_before_anybody_asks_are_one() -> None:
    wall = calibrated((0, NOON))
    wall.wall_ns(1)
    wall.calibrate(100, NOON + 50)
    wall.calibrate(200, NOON + 30)
    assert [wall.wall_ns(t) - NOON for t in (1, 29, 40, 120, 199, 200, 230)] == [1, 29, 30, 30, 30, 30, 60]


def test_a_backward_step_of_more_than_a_minute_is_followed_and_counted() -> None:
    wall = calibrated((0, NOON), (10 * SECOND, NOON + 10 * SECOND - HOUR))
    assert wall.wall_ns(11 * SECOND) == NOON + 11 * SECOND - HOUR
    assert wall.steps_back == 1


def test_an_instant_once_converted_keeps_its_value() -> None:
    wall = calibrated((0, NOON))
    before = wall.wall_ns(20 * SECOND)
    wall.calibrate(10 * SECOND, NOON + HOUR)
    assert wall.wall_ns(20 * SECOND) == before
    assert wall.wall_ns(15 * SECOND) == NOON + 15 * SECOND
    assert wall.wall_ns(20 * SECOND + 1) == NOON + HOUR + 10 * SECOND + 1


def test_differences_within_the_tolerance_are_jitter() -> None:
    wall = WallClock(tolerance_ns=MS)
    wall.calibrate(0, NOON)
    wall.calibrate(SECOND, NOON + SECOND + MS)
    assert wall.wall_ns(2 * SECOND) == NOON + 2 * SECOND


def test_a_backward_step_of_a_minute_is_not_yet_followed() -> None:
    wall = calibrated((0, NOON), (10 * SECOND, NOON + 10 * SECOND - MINUTE))
    assert wall.wall_ns(10 * SECOND) == NOON + 10 * SECOND
    assert wall.wall_ns(70 * SECOND) == NOON + 10 * SECOND
    assert wall.wall_ns(70 * SECOND + 1) == NOON + 10 * SECOND + 1
    assert wall.steps_back == 0


def test_small_steps_back_that_add_up_to_more_than_a_minute_still_let_time_stand() -> None:
    wall = calibrated((0, NOON))
    for n in range(1, 5):
        wall.calibrate(n * SECOND, NOON + n * SECOND - n * 50 * SECOND)
    assert wall.wall_ns(4 * SECOND) == NOON + SECOND
    assert wall.steps_back == 0


def test_an_old_instant_converts_by_the_calibration_of_its_time() -> None:
    wall = calibrated((0, NOON), (10 * SECOND, NOON + HOUR), (20 * SECOND, NOON))
    assert wall.wall_ns(25 * SECOND) == NOON + 5 * SECOND
    assert wall.wall_ns(15 * SECOND) == NOON + HOUR + 5 * SECOND
    assert wall.wall_ns(5 * SECOND) == NOON + 5 * SECOND
    assert wall.wall_ns(-SECOND) == NOON - SECOND


def test_a_calibration_that_comes_again_or_late_says_nothing_new() -> None:
    wall = calibrated((0, NOON), (10 * SECOND, NOON + HOUR), (10 * SECOND, NOON + HOUR), (5 * SECOND, NOON), (0, NOON))
    assert wall.wall_ns(20 * SECOND) == NOON + HOUR + 10 * SECOND
    assert wall.steps_back == 0


def test_a_frozen_wall_clock_holds_time_and_takes_no_memory() -> None:
    """Ten hours frozen, read once a second, more readings than are kept; then it jumps to where it should be."""
    wall = calibrated((0, NOON))
    first = wall.wall_ns(SECOND // 2)
    for n in range(1, 36_000):
        wall.calibrate(n * SECOND, NOON)
    assert wall.wall_ns(35_999 * SECOND) == first
    wall.calibrate(36_000 * SECOND, NOON + 36_000 * SECOND)
    assert wall.wall_ns(36_000 * SECOND) == NOON + 36_000 * SECOND
    assert wall.wall_ns(18_000 * SECOND) == first
    assert wall.wall_ns(SECOND // 2) == first
    assert wall.steps_back == 0


class Machine:
    """A machine whose wall clock is set at will, its calibrations, and every conversion that was asked for."""

    def __init__(self) -> None:
        self.wall = WallClock()
        self.now_ns, self.offset_ns = 0, NOON
        self.wall.calibrate(0, NOON)
        self.asked: dict[int, int] = {}

    def go(self, ns: int, step_ns: int) -> None:
        self.now_ns += ns
        self.offset_ns += step_ns
        self.wall.calibrate(self.now_ns, self.now_ns + self.offset_ns)

    def ask(self, ago_ns: int) -> int:
        mono_ns = self.now_ns - ago_ns
        self.asked.setdefault(mono_ns, self.wall.wall_ns(mono_ns))
        return self.asked[mono_ns]

    def unchanged(self) -> bool:
        return {mono_ns: self.wall.wall_ns(mono_ns) for mono_ns in self.asked} == self.asked

    def rises(self) -> bool:
        return all(a <= b for a, b in pairwise(self.wall.wall_ns(mono_ns) for mono_ns in sorted(self.asked)))


def turns(most_back_ns: int) -> st.SearchStrategy[list[tuple[int, int, int]]]:
    """(time that passes, step of the wall clock, how long ago what is asked for was; below 0 in the future)."""
    step = st.one_of(st.just(0), st.integers(-most_back_ns, 2 * HOUR), st.integers(-min(most_back_ns, SECOND), SECOND))
    return st.lists(
        st.tuples(st.integers(0, 100 * SECOND), step, st.integers(-10 * SECOND, 300 * SECOND)), min_size=1, max_size=40
    )


@given(turns(most_back_ns=MINUTE))
def test_under_steps_of_up_to_a_minute_back_time_never_falls_and_never_changes(run: list[tuple[int, int, int]]) -> None:
    machine = Machine()
    for ns, step_ns, ago_ns in run:
        machine.go(ns, step_ns)
        machine.ask(ago_ns)
        assert machine.rises()
    assert machine.unchanged()
    assert machine.wall.steps_back == 0


@given(turns(most_back_ns=3 * HOUR))
def test_time_falls_only_where_a_step_of_more_than_a_minute_was_followed(run: list[tuple[int, int, int]]) -> None:
    machine = Machine()
    followed = 0
    for ns, step_ns, ago_ns in run:
        newest = max(machine.asked, default=None)
        machine.go(ns, step_ns)
        followed += step_ns < -MINUTE
        assert machine.wall.steps_back == followed
        if step_ns < -MINUTE and (newest is None or machine.now_ns > newest):
            assert machine.ask(0) == machine.now_ns + machine.offset_ns
        machine.ask(ago_ns)
    assert machine.unchanged()
    values = [machine.asked[mono_ns] for mono_ns in sorted(machine.asked)]
    assert sum(a > b for a, b in pairwise(values)) <= followed


@given(turns(most_back_ns=MINUTE))
def test_time_is_the_wall_clocks_unless_it_stands_still_at_what_was_said(run: list[tuple[int, int, int]]) -> None:
    """A forward step holds from its instant on; after a step back nothing moves until the wall clock has caught up."""
    machine = Machine()
    said = machine.ask(0)
    for ns, step_ns, _ in run:
        machine.go(ns + 1, step_ns)  # an instant that was asked for keeps its value
        shown = machine.now_ns + machine.offset_ns
        assert machine.ask(0) == max(said, shown)
        said = max(said, shown)


@given(
    st.lists(
        st.tuples(st.integers(0, 100 * SECOND), st.integers(-3 * HOUR, 3 * HOUR), st.integers(0, 200 * SECOND)),
        min_size=1,
        max_size=40,
    )
)
def test_calibrations_in_any_order_change_no_instant_that_was_converted(run: list[tuple[int, int, int]]) -> None:
    wall = WallClock()
    seen: dict[int, int] = {}
    for at_ns, error_ns, query_ns in run:
        wall.calibrate(at_ns, NOON + at_ns + error_ns)
        seen.setdefault(query_ns, wall.wall_ns(query_ns))
    assert {query: wall.wall_ns(query) for query in seen} == seen
    values = [seen[query] for query in sorted(seen)]
    assert sum(a > b for a, b in pairwise(values)) <= wall.steps_back


def test_reading_the_machines_clocks_is_true_to_a_millisecond() -> None:
    wall = WallClock()
    wall.read()
    before_ns = time.time_ns()
    found_ns = wall.wall_ns(time.monotonic_ns())
    after_ns = time.time_ns()
    assert before_ns - MS < found_ns < after_ns + MS


class Stepping(WallClock):
    """Of a machine whose wall clock is set back by an hour after the first reading."""

    readings = 0

    def read(self) -> None:
        mono_ns = time.monotonic_ns()
        self.calibrate(mono_ns, NOON + mono_ns - (HOUR if self.readings else 0))
        self.readings += 1


async def test_an_agent_flags_a_step_back_in_state_and_metrics(caplog: pytest.LogCaptureFixture) -> None:
    wall, port = Stepping(), free_port()
    wall.read()

    async def beats() -> Steps:
        while True:
            await asyncio.sleep(0.05)
            yield Watermark("text", time.monotonic_ns())

    mqtt = {"broker": f"embedded:{port}", "metrics_every": "1 s"}
    agent = Agent(
        Config.model_validate({"agent": {"hop": "100 ms"}, "mqtt": mqtt}),
        sensors=[ScriptedSensor("text", Source("text", Modality.TEXT), beats)],
        encoders={Modality.TEXT: ScriptedEncoder(Modality.TEXT, silent)},
        transcriber=None,
        clock=RealClock(),
        wall=wall,
    )
    running = asyncio.create_task(agent.run())
    try:
        async with asyncio.timeout(30):
            state = await published(port, "state", lambda state: "clock" in state)
            metrics = await published(port, "metrics", lambda metrics: metrics["counts"]["wall_clock.steps_back"] > 0)
    finally:
        running.cancel()
        await asyncio.wait([running])
    assert state["clock"] == {"steps_back": 1}
    assert metrics["counts"]["wall_clock.steps_back"] == 1
    assert sum("wall clock stepped back" in record.getMessage() for record in caplog.records) == 1


async def published(port: int, topic: str, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The first message on a topic of the agent that is as wanted; waits for the broker."""
    while True:
        try:
            async with aiomqtt.Client("127.0.0.1", port) as client:
                await client.subscribe(f"attune/+/{topic}")
                async for message in client.messages:
                    assert isinstance(message.payload, bytes)
                    payload: dict[str, Any] = json.loads(message.payload)
                    if message.topic.matches(f"attune/+/{topic}") and wanted(payload):
                        return payload
        except aiomqtt.MqttError:
            await asyncio.sleep(0.05)


def test_rfc3339_is_utc_with_milliseconds_rounded_down() -> None:
    assert rfc3339(1_795_255_200 * SECOND + 999_999) == "2026-11-21T10:00:00.000Z"
    assert rfc3339(1_795_255_200 * SECOND + 1_999_999) == "2026-11-21T10:00:00.001Z"


async def test_virtual_clock_wakes_sleepers_in_the_order_of_their_instants() -> None:
    clock = VirtualClock()
    woken: list[int] = []

    async def sleeper(t_ns: int) -> None:
        await clock.sleep_until(t_ns)
        woken.append(t_ns)

    async with asyncio.TaskGroup() as tasks:
        for t_ns in (30, 10, 20):
            tasks.create_task(sleeper(t_ns))
        await asyncio.sleep(0)
        clock.advance_to(20)
        await asyncio.sleep(0)
        assert woken == [10, 20]
        clock.advance_to(15)
        assert clock.now_ns() == 20
        clock.advance_to(30)
    assert woken == [10, 20, 30]
