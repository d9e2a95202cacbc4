import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.clock import MS, SECOND, VirtualClock, WallClock, rfc3339

HOUR = 3600 * SECOND
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


@given(
    st.lists(
        st.tuples(st.integers(0, 100 * SECOND), st.integers(-30 * SECOND, HOUR), st.integers(0, 100 * SECOND)),
        min_size=1,
        max_size=30,
    )
)
def test_converted_time_never_runs_backwards_and_never_changes(steps: list[tuple[int, int, int]]) -> None:
    wall = WallClock()
    seen: dict[int, int] = {}
    for at_ns, error_ns, query_ns in steps:
        wall.calibrate(at_ns, NOON + at_ns + error_ns)
        seen.setdefault(query_ns, wall.wall_ns(query_ns))
    assert {query: wall.wall_ns(query) for query in seen} == seen
    if not wall.steps_back:
        values = [seen[query] for query in sorted(seen)]
        assert values == sorted(values)


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
