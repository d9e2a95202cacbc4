"""Sets of samples by stamp: recorded cases, written from the policies' definitions, and what must always hold."""

import random
from collections.abc import Iterable
from fractions import Fraction
from itertools import chain, pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.align import ApproximateTime, ExactTime

Arrival = tuple[int, int]
"""Topic and stamp."""


def sets(policy: ExactTime | ApproximateTime, arrivals: Iterable[Arrival]) -> list[list[tuple[int, ...]]]:
    """What each arrival released; the item of a sample is its stamp."""
    return [policy.add(topic, t_ns, t_ns) for topic, t_ns in arrivals]


def released(policy: ExactTime | ApproximateTime, arrivals: Iterable[Arrival]) -> list[tuple[int, ...]]:
    """All sets, in the order of their release."""
    return [found for step in sets(policy, arrivals) for found in step]


class TestExactTime:
    def test_a_set_leaves_when_its_last_sample_comes(self) -> None:
        policy = ExactTime(3, 10)
        assert sets(policy, [(0, 5), (2, 5), (1, 5)]) == [[], [], [(5, 5, 5)]]
        assert policy.held == policy.dropped == 0

    def test_one_nanosecond_beside_is_no_match(self) -> None:
        assert released(ExactTime(2, 10), [(0, 5), (1, 6)]) == []

    def test_a_complete_set_takes_the_older_ones_with_it(self) -> None:
        policy = ExactTime(2, 10)
        assert released(policy, [(0, 1), (0, 2), (0, 3), (1, 2)]) == [(2, 2)]
        assert (policy.held, policy.dropped) == (1, 1)
        assert released(policy, [(1, 3)]) == [(3, 3)]

    def test_the_oldest_incomplete_set_gives_way(self) -> None:
        policy = ExactTime(2, 2)
        assert released(policy, [(0, 1), (0, 2), (0, 3), (1, 1)]) == []  # 1 came back only to be the oldest again
        assert released(policy, [(1, 3)]) == [(3, 3)]

    def test_the_oldest_is_the_one_with_the_oldest_stamp(self) -> None:
        policy = ExactTime(2, 2)
        assert released(policy, [(0, 3), (0, 2), (0, 1), (1, 2), (1, 3)]) == [(2, 2), (3, 3)]

    def test_without_a_bound_nothing_gives_way(self) -> None:
        policy = ExactTime(2, 0)
        assert released(policy, [*((0, t) for t in range(1000)), (1, 0)]) == [(0, 0)]
        assert policy.held == 999

    def test_the_later_of_two_samples_with_one_stamp_counts(self) -> None:
        policy = ExactTime(2, 5)
        policy.add(0, 7, "first")
        policy.add(0, 7, "second")
        assert policy.add(1, 7, "other") == [("second", "other")]
        assert policy.dropped == 1

    def test_items_are_not_compared(self) -> None:
        policy, pictures = ExactTime(3, 5), [np.zeros((2, 2)) for _ in range(4)]
        for topic, picture in enumerate(pictures[:2]):
            assert policy.add(topic, 7, picture) == []
        assert policy.add(1, 7, pictures[3]) == []  # in the place of the other
        (found,) = policy.add(2, 7, pictures[2])
        assert [id(item) for item in found] == [id(pictures[i]) for i in (0, 3, 2)]
        assert policy.dropped == 1

    def test_none_is_an_item_like_any_other(self) -> None:
        policy = ExactTime(2, 5)
        assert policy.add(0, 7, None) == []
        assert policy.add(1, 7, None) == [(None, None)]

    @given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 30)), max_size=200), st.integers(1, 8))
    def test_memory_is_bounded_and_every_sample_accounted_for(self, arrivals: list[Arrival], size: int) -> None:
        policy = ExactTime(3, size)
        out = 0
        for topic, t_ns in arrivals:
            out += 3 * len(policy.add(topic, t_ns, t_ns))
            assert policy.held <= size
        assert out + policy.dropped <= len(arrivals) <= out + policy.dropped + 2 * policy.held

    @given(st.permutations([(topic, t) for topic in range(3) for t in range(4)]))
    def test_in_order_streams_give_every_set_in_order(self, shuffled: list[Arrival]) -> None:
        queues = [iter(range(4)) for _ in range(3)]
        arrivals = [(topic, next(queues[topic])) for topic, _ in shuffled]
        assert released(ExactTime(3, 0), arrivals) == [(t, t, t) for t in range(4)]

    @pytest.mark.parametrize(("topics", "size"), [(0, 1), (2, -1)])
    def test_what_makes_no_sense_is_refused(self, topics: int, size: int) -> None:
        with pytest.raises(ValueError, match=r"topics \d"):
            ExactTime(topics, size)


class TestApproximateTime:
    def test_equal_stamps_leave_at_once(self) -> None:
        """The fronts are as close as can be, so nothing can be better."""
        policy = ApproximateTime(2, 10)
        assert sets(policy, [(0, 0), (1, 0), (0, 10), (1, 10)]) == [[], [(0, 0)], [], [(10, 10)]]

    def test_near_pairs_leave_when_a_better_one_is_impossible(self) -> None:
        """(0, 1): until the next of topic 0 comes, it might be 1 and the better match. At 10 it is not."""
        policy = ApproximateTime(2, 10)
        assert sets(policy, [(0, 0), (1, 1), (0, 10), (1, 11)]) == [[], [], [(0, 1)], []]

    def test_a_later_sample_of_the_faster_topic_is_the_better_match(self) -> None:
        """The pivot is 10; of 0, 5 and 9 the last is nearest to it, and 14 is worse again."""
        policy = ApproximateTime(2, 10)
        assert sets(policy, [(0, 0), (0, 5), (0, 9), (1, 10), (0, 14)]) == [[], [], [], [], [(9, 10)]]

    def test_the_sample_after_the_pivot_can_be_the_better_match(self) -> None:
        policy = ApproximateTime(2, 10)
        assert released(policy, [(0, 0), (1, 10), (0, 11), (0, 22), (1, 20), (1, 30)]) == [(11, 10), (22, 20)]

    def test_age_has_its_price(self) -> None:
        """Around the pivot 10 are 0 and 20, equally far: without a penalty the first stays, being there already.

        With 19 the later is nearer by 1, but it ends 9 later: 9 * 1.1 < 10, so it wins; with a penalty of 0.2, 9 * 1.2
        >= 10, it does not.
        """
        assert released(ApproximateTime(2, 10, age_penalty=0), [(0, 0), (1, 10), (0, 20)]) == [(0, 10)]
        assert released(ApproximateTime(2, 10, age_penalty=0.1), [(0, 0), (1, 10), (0, 19), (0, 40)]) == [(19, 10)]
        assert released(ApproximateTime(2, 10, age_penalty=0.2), [(0, 0), (1, 10), (0, 19), (0, 40)]) == [(0, 10)]

    def test_durations_times_the_penalty_are_compared_exactly(self) -> None:
        """1.7 is a little less than 17/10 in binary, so 10 ns times it is a little less than 17 ns: 10 later is better.

        Rounded to a double the product would be 17, and the older candidate would stay.
        """
        policy = ApproximateTime(2, 10, age_penalty=0.7)
        assert released(policy, [(0, 0), (1, 17), (0, 27), (0, 90)]) == [(27, 17)]

    def test_stamps_and_bounds_may_be_numpys(self) -> None:
        """Minutes times the penalty, as a fraction, are more than 64 bits hold."""
        minute = 60 * 10**9
        arrivals = [(0, 0), (1, 10 * minute), (0, 19 * minute), (0, 40 * minute), (1, 49 * minute), (0, 61 * minute)]
        bounds: Any = np.array([minute, 9 * minute])
        stamp: Any = np.int64
        policy = ApproximateTime(2, 10, lower_bounds_ns=bounds)
        found = [policy.add(topic, stamp(t_ns), t_ns) for topic, t_ns in arrivals]
        assert found == sets(ApproximateTime(2, 10, lower_bounds_ns=[minute, 9 * minute]), arrivals)
        assert [chosen for step in found for chosen in step] == [(19 * minute, 10 * minute), (40 * minute, 49 * minute)]

    def test_three_topics(self) -> None:
        arrivals = [(0, 0), (1, 3), (2, 4), (0, 5), (1, 6), (2, 20), (0, 21), (1, 22), (0, 40), (1, 40), (2, 40)]
        assert released(ApproximateTime(3, 10), arrivals) == [(5, 3, 4), (21, 22, 20), (40, 40, 40)]

    def test_a_set_wider_than_allowed_never_leaves(self) -> None:
        policy = ApproximateTime(2, 10, max_interval_ns=4)
        assert released(policy, [(0, 0), (1, 5), (0, 6), (1, 10), (0, 14), (1, 20), (0, 30)]) == [(6, 5), (14, 10)]
        assert released(ApproximateTime(2, 10, max_interval_ns=0), [(0, 1), (1, 2), (0, 2), (1, 3)]) == [(2, 2)]

    def test_a_lower_bound_releases_earlier(self) -> None:
        """Topic 0 comes every 10 at the least: nothing of it comes before 10, and 10 is worse for the pivot 1."""
        arrivals = [(0, 0), (1, 1), (0, 10)]
        assert sets(ApproximateTime(2, 10), arrivals) == [[], [], [(0, 1)]]
        assert sets(ApproximateTime(2, 10, lower_bounds_ns=[10, 10]), arrivals) == [[], [(0, 1)], []]
        assert sets(ApproximateTime(2, 10, lower_bounds_ns=[1, 0]), arrivals) == [[], [], [(0, 1)]]

    def test_a_bound_that_is_broken_is_counted(self) -> None:
        policy = ApproximateTime(2, 10, lower_bounds_ns=[5, 0])
        released(policy, [(0, 0), (0, 4), (0, 9), (1, 50), (1, 49)])
        assert policy.disordered == [1, 1]

    def test_overflow_drops_the_oldest_and_cancels_the_candidate(self) -> None:
        """(0, 10) is the candidate; three more of topic 1 push 10 out, and 0 with it."""
        policy = ApproximateTime(2, 3)
        assert sets(policy, [(0, 0), (1, 10), (1, 11), (1, 12)]) == [[], [], [], []]
        assert policy.held == (1, 3)
        assert released(policy, [(1, 13)]) == []
        assert policy.overflows == [0, 1]
        assert policy.held == (0, 3)  # topic 1 lost what might have been the better match: it gives no pivot
        assert released(policy, [(0, 12), (0, 20)]) == [(12, 12)]

    def test_a_topic_that_lost_samples_gives_no_pivot_until_it_is_harmless(self) -> None:
        policy = ApproximateTime(2, 1)
        arrivals = [(0, 0), (0, 1), (1, 2), (0, 3), (1, 4), (0, 5), (1, 6)]
        found = released(policy, arrivals)
        assert policy.overflows[0] > 0
        assert all(abs(a - b) <= 2 for a, b in found)
        assert policy.held <= (1, 1)

    def test_a_topic_that_never_comes_holds_no_more_than_the_queues(self) -> None:
        policy = ApproximateTime(3, 5)
        for t in range(1000):
            assert policy.add(t % 2, t, bytes(1)) == []
        assert policy.held == (5, 5, 0)
        assert policy.overflows == [495, 495, 0]

    def test_items_are_let_go(self) -> None:
        """What left, was dropped or was passed over is not kept alive."""

        class Item:
            alive = 0

            def __init__(self) -> None:
                Item.alive += 1

            def __del__(self) -> None:
                Item.alive -= 1

        policy = ApproximateTime(2, 4)
        for t in range(100):
            policy.add(0, 3 * t, Item())
            policy.add(1, 7 * t, Item())
            assert Item.alive <= 8

    def test_one_topic_passes_through(self) -> None:
        assert released(ApproximateTime(1, 3), [(0, 1), (0, 2)]) == [(1,), (2,)]

    @pytest.mark.parametrize(
        ("topics", "size", "more", "named"),
        [
            (0, 1, {}, "topics 0"),
            (2, 0, {}, "queue_size 0"),
            (2, 1, {"age_penalty": -0.1}, "age_penalty -0.1"),
            (2, 1, {"age_penalty": float("nan")}, "age_penalty nan"),
            (2, 1, {"max_interval_ns": -1}, "max_interval_ns -1"),
            (2, 1, {"lower_bounds_ns": [1]}, "must be 2 numbers"),
            (2, 1, {"lower_bounds_ns": [1, -1]}, "none below 0"),
        ],
    )
    def test_what_makes_no_sense_is_refused(self, topics: int, size: int, more: dict[str, object], named: str) -> None:
        with pytest.raises(ValueError, match=named):
            ApproximateTime(topics, size, **more)  # type: ignore[arg-type]


def interleaved(streams: list[list[int]], seed: int) -> list[Arrival]:
    """All samples, each stream in its order, the streams among one another as chance has it."""
    rest = [list(stream) for stream in streams]
    chance = random.Random(seed)
    arrivals = []
    while any(rest):
        topic = chance.choice([i for i, stream in enumerate(rest) if stream])
        arrivals.append((topic, rest[topic].pop(0)))
    return arrivals


def by_definition(streams: list[list[int]], penalty: float) -> list[tuple[int, ...]]:
    """The sets of streams that are known to their ends, by going through all candidates of each pivot."""
    at = [0] * len(streams)
    found = []
    factor = 1 + Fraction(penalty)
    while all(i < len(stream) for i, stream in zip(at, streams, strict=True)):
        fronts = [stream[i] for i, stream in zip(at, streams, strict=True)]
        pivot = max(range(len(streams)), key=lambda i: (fronts[i], i))
        here, best = list(at), list(at)
        while True:
            fronts = [stream[i] for i, stream in zip(here, streams, strict=True)]
            chosen = [stream[i] for i, stream in zip(best, streams, strict=True)]
            if (max(fronts) - max(chosen)) * factor < min(fronts) - min(chosen):
                best = list(here)
            earliest = min(range(len(streams)), key=lambda i: (fronts[i], i))
            if earliest == pivot:
                break
            here[earliest] += 1
            if here[earliest] == len(streams[earliest]):
                break  # what would come next is not known
        found.append(tuple(stream[i] for i, stream in zip(best, streams, strict=True)))
        at = [i + 1 for i in best]
    return found


stamps = st.lists(st.integers(0, 400), min_size=1, max_size=30, unique=True).map(sorted)
several = st.lists(stamps, min_size=2, max_size=4)
penalties = st.sampled_from([0.0, 0.1, 0.5, 2.0])


@settings(max_examples=300)
@given(several, st.integers(0, 1 << 30), penalties)
def test_the_sets_are_those_of_the_definition(streams: list[list[int]], seed: int, penalty: float) -> None:
    """Whatever the arrival order; what is released before the streams end needs nothing that is still to come."""
    found = released(ApproximateTime(len(streams), 1000, age_penalty=penalty), interleaved(streams, seed))
    endless = [[*stream, *range(10_000, 10_400)] for stream in streams]
    assert found == by_definition(endless, penalty)[: len(found)]


@given(several, st.integers(0, 1 << 30), st.integers(0, 1 << 30))
def test_arrival_order_across_streams_does_not_matter(streams: list[list[int]], one: int, other: int) -> None:
    """Once each stream has gone on far enough, both orders have released the same."""
    endless = [[*stream, 100_000, 200_000] for stream in streams]
    found = [released(ApproximateTime(len(streams), 1000), interleaved(endless, seed)) for seed in (one, other)]
    assert found[0] == found[1]


@given(several, st.integers(0, 1 << 30), st.integers(1, 12), st.none() | st.integers(0, 100))
def test_no_sample_twice_no_sets_that_cross_memory_bounded(
    streams: list[list[int]], seed: int, size: int, widest: int | None
) -> None:
    policy = ApproximateTime(len(streams), size, max_interval_ns=widest)
    found = []
    for topic, t_ns in interleaved(streams, seed):
        found += policy.add(topic, t_ns, t_ns)
        assert max(policy.held) <= size
    for before, after in pairwise(found):
        assert all(a < b for a, b in zip(before, after, strict=True))  # neither twice nor crossed
    assert all(set(column) <= set(stream) for column, stream in zip(zip(*found, strict=True), streams, strict=False))
    assert widest is None or all(max(chosen) - min(chosen) <= widest for chosen in found)


@given(several, st.integers(0, 1 << 30))
def test_lower_bounds_that_hold_change_when_but_not_what(streams: list[list[int]], seed: int) -> None:
    bounds = [min((b - a for a, b in pairwise(stream)), default=0) for stream in streams]
    arrivals = interleaved(streams, seed)
    plain = sets(ApproximateTime(len(streams), 1000), arrivals)
    early = sets(ApproximateTime(len(streams), 1000, lower_bounds_ns=bounds), arrivals)
    for i in range(len(arrivals)):
        so_far = [list(chain(*steps[: i + 1])) for steps in (plain, early)]
        assert so_far[1][: len(so_far[0])] == so_far[0]


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(-50, 50)), max_size=120), st.integers(1, 6))
def test_stamps_that_run_back_break_nothing(arrivals: list[Arrival], size: int) -> None:
    policy = ApproximateTime(3, size, lower_bounds_ns=[3, 0, 7])
    found = 0
    for topic, t_ns in arrivals:
        found += len(policy.add(topic, t_ns, t_ns))
        assert max(policy.held) <= size
    assert 3 * found <= len(arrivals)
