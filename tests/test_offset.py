import math
from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.clock import MS, SECOND
from agent.remote.offset import HISTORY_NS, MAX_TRIP_NS, RATE_LIMIT, WANDER, OffsetFilter

HOUR = 3600 * SECOND
YEAR = 365 * 24 * HOUR


@dataclass
class Far:
    """A host whose clock is `offset_ns` ahead of ours at our 0, and runs `ppb` faster."""

    offset_ns: int
    ppb: int

    def reads(self, local_ns: int) -> int:
        return local_ns + self.offset_ns + local_ns * self.ppb // SECOND

    def ahead(self, local_ns: int) -> int:
        return self.reads(local_ns) - local_ns

    def answer(self, sent_ns: int, there_ns: int, busy_ns: int, back_ns: int) -> tuple[int, int, int, int]:
        came_ns = sent_ns + there_ns
        went_ns = came_ns + busy_ns
        return sent_ns, self.reads(came_ns), self.reads(went_ns), went_ns + back_ns


delays = st.one_of(st.integers(0, 5 * MS), st.integers(0, SECOND))
offsets = st.integers(-YEAR, YEAR)
rates = st.integers(-round(RATE_LIMIT * SECOND), round(RATE_LIMIT * SECOND))
trips = st.lists(st.tuples(st.integers(0, 20 * SECOND), delays, st.integers(0, MS), delays), min_size=1, max_size=60)


def probed(far: Far, trips: list[tuple[int, int, int, int]], start_ns: int = 0) -> tuple[OffsetFilter, int]:
    """A filter after probes that were sent so long after one another, and when the last came back."""
    offset, now_ns = OffsetFilter(), start_ns
    for pause_ns, there_ns, busy_ns, back_ns in trips:
        t0, t1, t2, t3 = far.answer(now_ns + pause_ns, there_ns, busy_ns, back_ns)
        offset.add(t0, t1, t2, t3)
        now_ns = t3
    return offset, now_ns


@given(offsets, rates, trips, st.integers(-SECOND, 600 * SECOND), st.integers(0, YEAR))
def test_the_true_offset_is_within_the_uncertainty_whatever_the_ways_took(
    offset_ns: int, ppb: int, trips: list[tuple[int, int, int, int]], later_ns: int, start_ns: int
) -> None:
    far = Far(offset_ns, ppb)
    offset, now_ns = probed(far, trips, start_ns)
    if not offset.ready:  # every probe busier there than it was on its way, by a clock that runs fast
        return
    assert offset.restarts == 0
    at_ns = now_ns + later_ns
    estimate = offset.at(at_ns)
    assert abs(estimate.offset_ns - far.ahead(at_ns)) <= estimate.uncertainty_ns
    local_ns, uncertainty_ns = offset.local_ns(far.reads(at_ns))
    assert abs(local_ns - at_ns) <= uncertainty_ns + 1
    drift, unsure = offset.drift
    assert abs(drift - ppb / SECOND) <= unsure + 1e-12


@given(offsets, st.integers(-100, 100), st.floats(0, 6.28), trips)
def test_it_holds_for_a_drift_that_wanders(
    offset_ns: int, ppm: int, phase: float, trips: list[tuple[int, int, int, int]]
) -> None:
    """The rate swings by half of what it may, with a period of some minutes, as temperature makes it."""
    turn = 2 * math.pi / (300 * SECOND)

    def ahead(t_ns: int) -> int:
        swing = WANDER / 2 / turn * (math.sin(turn * t_ns + phase) - math.sin(phase))
        return offset_ns + round(t_ns * ppm * 1e-6 + swing)

    offset, now_ns = OffsetFilter(), 0
    for pause_ns, there_ns, busy_ns, back_ns in trips:
        t0 = now_ns + pause_ns
        came_ns, went_ns = t0 + there_ns, t0 + there_ns + busy_ns
        now_ns = went_ns + back_ns
        offset.add(t0, came_ns + ahead(came_ns), went_ns + ahead(went_ns), now_ns)
    if offset.ready:
        estimate = offset.at(now_ns)
        assert offset.restarts == 0
        assert abs(estimate.offset_ns - ahead(now_ns)) <= estimate.uncertainty_ns


@given(offsets, st.lists(st.tuples(delays, delays), min_size=1, max_size=20))
def test_a_burst_is_at_least_as_good_as_its_quickest_probe(offset_ns: int, ways: list[tuple[int, int]]) -> None:
    offset, now_ns = probed(Far(offset_ns, 0), [(0, there_ns, 0, back_ns) for there_ns, back_ns in ways])
    estimate = offset.at(now_ns)
    assert estimate.rtt_ns == min(there_ns + back_ns for there_ns, back_ns in ways)
    assert estimate.uncertainty_ns <= estimate.rtt_ns / 2 + RATE_LIMIT * 2 * now_ns + 2


def test_the_four_stamps_of_one_probe() -> None:
    """RFC 5905, section 8: 30 ms there, 2 ms in it, 10 ms back; they are a second ahead."""
    offset = OffsetFilter()
    assert offset.add(100 * MS, 1130 * MS, 1132 * MS, 142 * MS)
    estimate = offset.at(121 * MS)
    assert estimate.rtt_ns == 40 * MS
    assert estimate.offset_ns == SECOND + 10 * MS  # wrong by half of the asymmetry
    assert estimate.uncertainty_ns == pytest.approx(20 * MS, abs=10_000)


def test_one_quick_there_and_one_quick_back_are_better_together() -> None:
    offset, now_ns = probed(Far(7 * HOUR, 0), [(0, MS, 0, 40 * MS), (0, 40 * MS, 0, MS)])
    estimate = offset.at(now_ns)
    assert estimate.offset_ns == pytest.approx(7 * HOUR, abs=100_000)
    assert estimate.uncertainty_ns < 1.1 * MS
    assert estimate.rtt_ns == 41 * MS


@pytest.mark.parametrize("ppm", [-100, -3, 0, 100])
def test_the_drift_is_learned_so_that_old_probes_keep_their_worth(ppm: int) -> None:
    far = Far(-5 * HOUR, ppm * 1000)
    offset, now_ns = probed(far, [(5 * SECOND, MS, 0, MS) for _ in range(40)], 9 * HOUR)
    drift, unsure = offset.drift
    assert drift * 1e6 == pytest.approx(ppm, abs=20)
    assert unsure < 40e-6
    later_ns = now_ns + 60 * SECOND
    estimate = offset.at(later_ns)
    assert abs(estimate.offset_ns - far.ahead(later_ns)) < MS
    assert estimate.uncertainty_ns < MS + unsure * 60 * SECOND + 1000
    assert estimate.uncertainty_ns < MS + RATE_LIMIT * 60 * SECOND / 4


@pytest.mark.parametrize("step_ns", [-3 * HOUR, -50 * MS, 50 * MS, HOUR])
def test_a_clock_that_steps_is_followed_with_the_first_probe_that_tells(step_ns: int) -> None:
    offset, now_ns = probed(Far(HOUR, 0), [(5 * SECOND, MS, 0, MS) for _ in range(30)])
    stepped = Far(HOUR + step_ns, 0)
    for count in range(1, 30):
        assert offset.add(*stepped.answer(now_ns + count * 5 * SECOND, MS, 0, MS))
        at_ns = now_ns + count * 5 * SECOND
        estimate = offset.at(at_ns)
        assert abs(estimate.offset_ns - stepped.ahead(at_ns)) <= estimate.uncertainty_ns
    assert offset.restarts == 1


def test_what_no_two_clocks_can_have_measured_is_refused() -> None:
    offset = OffsetFilter()
    assert not offset.add(10, 500, 600, 9)  # received before it was sent
    assert not offset.add(10, 500, 499, 20)  # answered before it came
    assert not offset.add(10, 500, 600, 20)  # busy for longer than it was away
    assert not offset.add(0, 500, 500, MAX_TRIP_NS + 1)
    assert not offset.ready
    with pytest.raises(LookupError, match="not been probed"):
        offset.at(0)


@given(offsets, rates, trips, st.lists(st.integers(0, 100 * SECOND), min_size=2, max_size=10, unique=True))
def test_what_was_later_there_is_later_here(
    offset_ns: int, ppb: int, trips: list[tuple[int, int, int, int]], instants: list[int]
) -> None:
    far = Far(offset_ns, ppb)
    offset, _ = probed(far, trips)
    if offset.ready:
        placed = [offset.local_ns(far.reads(t_ns))[0] for t_ns in sorted(instants)]
        assert all(later >= earlier for earlier, later in pairwise(placed))


def test_memory_does_not_grow() -> None:
    offset, _ = probed(Far(0, 0), [(700 * MS, MS, 0, MS) for _ in range(3000)])
    assert len(offset._slots) <= HISTORY_NS / SECOND + 1
