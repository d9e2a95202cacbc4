from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.clock import MS, SECOND
from sensors.stamps import AudioClockFit, DelayGuard, PtsMap, SlidingMin

BLOCK = 20 * MS
LONG = 100 * MS


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


@given(st.lists(st.tuples(st.integers(-3 * SECOND, 3 * SECOND), st.integers(0, 3 * SECOND)), max_size=60))
def test_pts_map_never_falls_and_never_leads(steps: list[tuple[int, int]]) -> None:
    pts_map, pts, arrival, last = PtsMap(), 0, 0, None
    for pts_step, step in steps:
        pts, arrival = pts + pts_step, arrival + step
        stamp = pts_map.stamp(pts, arrival)
        assert stamp <= arrival
        assert last is None or stamp >= last
        last = stamp


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


def run_fit(*, ppm: float, hours: float, jitter_ms: float, seed: int = 0) -> tuple[AudioClockFit, list[int], list[int]]:
    """(fit, spans' ends less the true ones, in ns, gaps between spans)."""
    rng = np.random.default_rng(seed)
    fit = AudioClockFit()
    wrong, gaps, edge = [], [], None
    for n in range(round(hours * 36_000)):
        true_ns = round(n * LONG * (1 + ppm * 1e-6))
        fit.observe(n * LONG, true_ns + round(rng.normal(0, jitter_ms * MS)))
        start, end = fit.span(n * LONG, (n + 1) * LONG)
        wrong.append(end - round((n + 1) * LONG * (1 + ppm * 1e-6)))
        gaps.append(0 if edge is None else start - edge)
        edge = end
    return fit, wrong, gaps


@pytest.mark.parametrize("ppm", [-100.0, 100.0])
def test_an_hour_of_drift_leaves_less_than_a_few_ms(ppm: float) -> None:
    fit, wrong, gaps = run_fit(ppm=ppm, hours=1, jitter_ms=2)
    assert not any(gaps)
    assert max(map(abs, wrong)) < 8 * MS  # the very first blocks know no better than their jitter
    assert max(map(abs, wrong[100:])) < 2 * MS
    assert abs(fit.drift * 1e6 - ppm) < 20
    assert fit.restarts == 0


def test_one_late_callback_does_not_move_the_time_line() -> None:
    fit = AudioClockFit()
    for n in range(200):
        fit.observe(n * BLOCK, n * BLOCK + (300 * MS if n == 100 else 0))
        assert abs(fit.at(n * BLOCK) - n * BLOCK) < MS
    assert fit.restarts == 0


@pytest.mark.parametrize("jump", [400 * MS, -400 * MS])
def test_a_jump_is_followed_and_counted_and_time_never_runs_backwards(jump: int) -> None:
    fit, spans = AudioClockFit(), []
    for n in range(200):
        fit.observe(n * BLOCK, SECOND + n * BLOCK + (jump if n >= 100 else 0))
        spans.append(fit.span(n * BLOCK, (n + 1) * BLOCK))
    assert fit.restarts == 1
    assert spans[-1] == (SECOND + 199 * BLOCK + jump, SECOND + 200 * BLOCK + jump)
    assert all(start < end for start, end in spans)
    assert all(after[0] >= before[1] for before, after in pairwise(spans))


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(-SECOND, SECOND), st.booleans()), max_size=80))
def test_spans_never_overlap_whatever_is_measured(blocks: list[tuple[int, int, bool]]) -> None:
    fit, count, edge = AudioClockFit(), 0, None
    for length, error, lost in blocks:
        if lost:
            fit.restart()
        fit.observe(count, count + error)
        start, end = fit.span(count, count + length * BLOCK)
        assert start < end
        assert edge is None or start >= edge
        count, edge = count + length * BLOCK, end


def test_the_fit_wants_a_measurement_first() -> None:
    with pytest.raises(ValueError, match="no measurement"):
        AudioClockFit().at(0)


def test_a_steady_delay_is_believed_once_it_was_told_often_enough() -> None:
    guard = DelayGuard()
    assert [guard.believes(180 * MS + n % 2 * MS) for n in range(12)] == [False] * 9 + [True] * 3


def test_a_delay_that_settles_is_not_believed_until_it_has() -> None:
    """What PulseAudio 16 claimed, block by block, of the monitor of a null sink."""
    claims = [686] * 30 + list(range(666, 26, -20)) + [35] * 20
    guard = DelayGuard()
    believed = [guard.believes(claim * MS) for claim in claims]
    assert believed.index(True) >= claims.index(35) + 8
    assert all(believed[claims.index(35) + 9 :])
