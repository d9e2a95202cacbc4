from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.clock import MS, SECOND
from sensors.soundline import AudioClockFit, DelayGuard
from tests.drift import BLOCK_NS, line_of_an_hour


@pytest.mark.parametrize("ppm", [-100.0, 100.0])
def test_an_hour_of_drift_and_of_callbacks_up_to_20_ms_late(ppm: float) -> None:
    fit, wrong, gaps = line_of_an_hour(ppm=ppm, late_ms=20)
    assert not any(gaps)
    assert max(map(abs, wrong)) < 20 * MS  # the very first blocks know no better than their lateness
    assert max(map(abs, wrong[50:])) < 6 * MS
    assert max(map(abs, wrong[3000:])) < 4 * MS
    assert abs(fit.drift * 1e6 - ppm) < 20
    assert fit.restarts == 0


def test_one_late_callback_does_not_move_the_time_line() -> None:
    fit = AudioClockFit()
    for n in range(200):
        fit.observe(n * BLOCK_NS, n * BLOCK_NS + (300 * MS if n == 100 else 0))
        assert abs(fit.at(n * BLOCK_NS) - n * BLOCK_NS) < MS
    assert fit.restarts == 0


@pytest.mark.parametrize("jump", [400 * MS, -400 * MS])
def test_a_jump_is_followed_and_told_and_time_never_runs_backwards(jump: int) -> None:
    fit, spans, told = AudioClockFit(), [], []
    for n in range(200):
        told.append(fit.observe(n * BLOCK_NS, SECOND + n * BLOCK_NS + (jump if n >= 100 else 0)))
        spans.append(fit.span(n * BLOCK_NS, (n + 1) * BLOCK_NS))
    assert [moved for moved in told if moved is not None] == [jump]
    assert told[100 + AudioClockFit.JUMP_AFTER - 1] == jump
    assert spans[-1] == (SECOND + 199 * BLOCK_NS + jump, SECOND + 200 * BLOCK_NS + jump)
    assert all(start < end for start, end in spans)
    assert all(after[0] >= before[1] for before, after in pairwise(spans))


@pytest.mark.parametrize("lost", [8 * MS, 30 * MS, -30 * MS])
def test_a_small_shift_that_nobody_tells_is_followed_within_a_second(lost: int) -> None:
    rng = np.random.default_rng(4)
    fit, wrong = AudioClockFit(), []
    for n, late in enumerate(rng.uniform(0, 20 * MS, 2000)):
        true_ns = n * BLOCK_NS + (lost if n >= 1000 else 0)
        fit.observe(n * BLOCK_NS, true_ns + round(late))
        wrong.append(fit.at(n * BLOCK_NS) - true_ns)
    assert max(map(abs, wrong[100:1000])) < 5 * MS
    assert max(map(abs, wrong[1060:])) < 7 * MS


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(-SECOND, SECOND), st.booleans()), max_size=80))
def test_spans_never_overlap_whatever_is_measured(blocks: list[tuple[int, int, bool]]) -> None:
    fit, count, edge = AudioClockFit(), 0, None
    for length, error, lost in blocks:
        if lost:
            fit.restart()
        fit.observe(count, count + error)
        start, end = fit.span(count, count + length * BLOCK_NS, delay_ns=BLOCK_NS, latest_ns=count + error)
        assert start < end
        assert edge is None or start >= edge
        count, edge = count + length * BLOCK_NS, end


def test_a_block_ends_by_its_arrival() -> None:
    fit = AudioClockFit()
    for n in range(50):
        fit.observe(n * BLOCK_NS, n * BLOCK_NS)
        fit.span(n * BLOCK_NS, (n + 1) * BLOCK_NS)
    assert fit.span(50 * BLOCK_NS, 51 * BLOCK_NS, latest_ns=51 * BLOCK_NS - 3 * MS) == (
        50 * BLOCK_NS,
        51 * BLOCK_NS - 3 * MS,
    )


def test_the_fit_wants_an_arrival_first() -> None:
    with pytest.raises(ValueError, match="no measurement"):
        AudioClockFit().at(0)


def judged(claims_ms: Sequence[float], age_ms: int | None = None) -> list[bool]:
    guard, age_ns = DelayGuard(), None if age_ms is None else age_ms * MS
    return [guard.believes(round(claim * MS), age_ns=age_ns) for claim in claims_ms]


def test_a_steady_delay_is_believed_once_it_was_told_often_enough() -> None:
    assert judged([40 + n % 2 for n in range(12)]) == [False] * 9 + [True] * 3


def test_a_long_delay_must_be_told_for_longer() -> None:
    believed = judged([180 + n % 2 for n in range(70)])
    assert believed.index(True) == 49  # the first of a row counts ever since it has no other to differ from
    assert all(believed[49:])


def test_a_delay_from_before_the_start_of_the_stream_is_not_believed() -> None:
    assert not any(judged([180] * 100, age_ms=90))
    assert judged([180] * 100, age_ms=200)[-1]


def test_a_delay_that_settles_is_not_believed_until_it_has() -> None:
    """What PulseAudio 16 claimed, block by block, of the monitor of a null sink and of a pipe."""
    for first in (686, 211):
        claims = [first] * 30 + list(range(first - 20, 26, -20)) + [35] * 20
        believed = judged(claims)
        assert believed.index(True) >= claims.index(35) + 7
        assert all(believed[claims.index(35) + 9 :])


def test_the_delay_is_the_mean_of_what_wanders_and_begins_anew_when_it_is_another() -> None:
    guard = DelayGuard()
    delays = [guard.delay_ns]
    for n in range(100):
        guard.add(30 * MS + (n % 3 - 1) * 8 * MS)
    delays.append(guard.delay_ns)
    guard.add(80 * MS)
    delays.append(guard.delay_ns)
    assert delays == [None, pytest.approx(30 * MS, abs=MS), 80 * MS]


@pytest.mark.parametrize(("claims_ms", "delay_ms"), [(41, 40), (32, 30)])
def test_when_the_line_moves_the_claims_say_whether_the_delay_did(claims_ms: int, delay_ms: int) -> None:
    guard = DelayGuard()
    for _ in range(500):
        guard.believes(30 * MS)
        guard.add(30 * MS)
    for _ in range(50):
        guard.believes(claims_ms * MS)
    guard.move(10 * MS)
    assert guard.delay_ns == delay_ms * MS
