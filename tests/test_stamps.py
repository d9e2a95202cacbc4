import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.clock import MS, SECOND
from sensors.stamps import PtsMap, SlidingMin


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(-100, 100)), min_size=1), st.integers(0, 100))
def test_sliding_min_is_the_least_of_its_window(steps: list[tuple[int, int]], window: int) -> None:
    least, now, seen = SlidingMin(window), 0, []
    for step, value in steps:
        now += step
        seen.append((now, value))
        assert least.add(value, now) == min(value for t, value in seen if t >= now - window)


def test_pts_map_removes_the_jitter_of_the_network() -> None:
    rng = np.random.default_rng(1)
    pts = PtsMap()
    offset = 7 * SECOND
    arrivals = [n * 40 * MS + offset + int(rng.exponential(30 * MS)) for n in range(1000)]
    arrivals = list(np.maximum.accumulate(arrivals))
    stamps = [pts.stamp(n * 40 * MS, int(arrival)) for n, arrival in enumerate(arrivals)]
    late = [stamp - (n * 40 * MS + offset) for n, stamp in enumerate(stamps)]
    assert min(late) >= 0
    assert max(late[50:]) < 5 * MS
    assert pts.restarts == 0


JUMPS = st.one_of(st.integers(-3 * SECOND, 3 * SECOND), st.sampled_from([-PtsMap.WRAPS_NS[0], -PtsMap.WRAPS_NS[1]]))


@given(st.lists(st.tuples(JUMPS, st.integers(0, 3 * SECOND)), max_size=60), st.integers(0, 3))
def test_pts_map_never_leads(steps: list[tuple[int, int]], held: int) -> None:
    pts_map, pts, arrival = PtsMap(held=held), 0, 0
    for pts_step, step in steps:
        pts, arrival = pts + pts_step, arrival + step
        assert pts_map.stamp(pts, arrival) <= arrival


@given(st.lists(st.tuples(JUMPS, st.integers(0, 3 * SECOND)), max_size=60))
def test_pts_map_never_falls_where_no_frame_is_held(steps: list[tuple[int, int]]) -> None:
    pts_map, pts, arrival, last = PtsMap(), 0, 0, 0
    for pts_step, step in steps:
        pts, arrival = pts + pts_step, arrival + step
        stamp = pts_map.stamp(pts, arrival)
        assert stamp >= last
        last = stamp


@pytest.mark.parametrize("ppm", [-100, 100])
def test_an_hour_of_frames_whose_clock_drifts_and_whose_network_jitters(ppm: int) -> None:
    """Error: what a slow clock loses in the minute, 6 ms, less what little the quickest frame was late."""
    rng = np.random.default_rng(2)
    pts_map, period = PtsMap(), SECOND // 25
    wrong, due = [], 0
    for n, late in enumerate(rng.exponential(20 * MS, 3600 * 25)):
        taken = round(n * period * (1 + ppm * 1e-6))
        due = max(due, taken + round(late))  # TCP keeps the order
        wrong.append(pts_map.stamp(n * period, due) - taken)
    assert -7 * MS < min(wrong[1500:]) <= max(wrong[1500:]) < 2 * MS
    assert pts_map.restarts == 0


@pytest.mark.parametrize("held", [1, 2, 3])
def test_frames_that_are_held_until_later_ones_come_keep_their_instant(held: int) -> None:
    rng = np.random.default_rng(3)
    pts_map = PtsMap(held=held)
    steps = rng.choice([40 * MS, 80 * MS], 500, p=[0.8, 0.2])  # some frames are left out by the sender
    taken = SECOND + np.concatenate([[0], np.cumsum(steps)])
    stamps = [pts_map.stamp(int(taken[n] - SECOND), int(taken[n + held])) for n in range(len(taken) - held)]
    late = np.array(stamps) - taken[: len(stamps)]
    assert np.abs(late[20:]).max() == 0


def test_frames_that_waited_while_the_stream_was_opened_are_told_from_the_live_ones() -> None:
    pts_map = PtsMap()
    opening = []
    for n in range(40):
        pts_map.stamp(n * 40 * MS, max(n * 40 * MS, SECOND + n * 2 * MS))  # a second's worth had waited
        opening.append(pts_map.opening)
    # 26 waited; the next came as soon as the reader was through with them.
    assert opening == [True] * 27 + [False] * 13


def test_frames_that_always_come_faster_than_they_say_are_live_after_a_while() -> None:
    pts_map = PtsMap()
    opening = []
    for n in range(300):
        pts_map.stamp(n * 40 * MS, n * 16 * MS)
        opening.append(pts_map.opening)
    assert opening.index(False) * 16 * MS == pytest.approx(PtsMap.OPENING_NS, abs=16 * MS)


@pytest.mark.parametrize("wrap", PtsMap.WRAPS_NS)
def test_pts_that_wrap_around_go_on(wrap: int) -> None:
    pts_map = PtsMap()
    first = wrap - 4 * SECOND
    for n in range(200):
        late = 30 * MS if n % 2 else 0
        assert pts_map.stamp((first + n * 40 * MS) % wrap, n * 40 * MS + late) == n * 40 * MS
    assert pts_map.restarts == 0


def test_frames_with_the_same_pts_have_the_same_stamp() -> None:
    pts_map = PtsMap()
    for n in range(10):
        pts_map.stamp(n * 40 * MS, n * 40 * MS)
    assert [pts_map.stamp(400 * MS, 400 * MS + late) for late in (0, 1, 50 * MS)] == [400 * MS] * 3


def test_pts_that_stand_still_are_not_trusted() -> None:
    pts_map = PtsMap()
    stamps = [pts_map.stamp(0, n * 40 * MS) for n in range(20)]
    assert not pts_map.trusted
    assert stamps[PtsMap.SAME_AFTER :] == [n * 40 * MS for n in range(PtsMap.SAME_AFTER, 20)]


def test_a_stream_whose_pts_fall_again_and_again_is_still_live() -> None:
    pts_map = PtsMap()
    opening = []
    for n in range(100):
        assert pts_map.stamp(-n * 40 * MS, n * 40 * MS) == n * 40 * MS
        opening.append(pts_map.opening)
    assert opening.index(False) * 40 * MS <= PtsMap.OPENING_NS
    assert not any(opening[opening.index(False) :])


def test_a_network_that_stalls_now_and_then_does_not_cost_the_trust() -> None:
    """Once in half an hour what is on its way comes two seconds later from then on."""
    pts_map, late = PtsMap(), 0
    for n in range(6 * 1800 * 10):
        if n % 18_000 == 9_000:
            late += 2 * SECOND
        pts_map.stamp(n * 100 * MS, n * 100 * MS + late)
    assert pts_map.restarts == 6
    assert pts_map.trusted


def test_pts_that_do_not_keep_pace_are_not_trusted() -> None:
    pts_map = PtsMap()
    lags = []
    for n in range(3000):  # says 25 frames/s, delivers 10
        arrival = n * 100 * MS
        lags.append(arrival - pts_map.stamp(n * 40 * MS, arrival))
    assert not pts_map.trusted
    assert max(lags) < 5 * SECOND
    assert lags[-1] == 0


def test_pts_map_outlives_a_stall_of_the_network() -> None:
    pts_map = PtsMap()
    for n in range(500):
        due = n * 40 * MS
        arrival = max(due, 12 * SECOND) if 10 * SECOND < due < 12 * SECOND else due
        assert pts_map.stamp(due, arrival) == due
    assert pts_map.trusted


def test_pts_map_starts_again_when_the_sender_does() -> None:
    pts_map = PtsMap()
    for n in range(10):
        pts_map.stamp(100 * SECOND + n * 40 * MS, n * 40 * MS)
    assert pts_map.stamp(0, 10 * SECOND) == 10 * SECOND
    assert pts_map.stamp(40 * MS, 10 * SECOND + 45 * MS) == 10 * SECOND + 40 * MS
    assert pts_map.restarts == 1
