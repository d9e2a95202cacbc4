"""Looking a stream up at an instant: recorded cases, written from the definitions, and what must always hold."""

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from agent.align import First, Last, Linear, Nearest, RelativeWindow, Verdict

NONE, WAIT = Verdict.NONE, Verdict.WAIT
TIMES = [10, 20, 30]
VALUES = ["a", "b", "c"]
EVER = RelativeWindow(None, False, None, False)
PAST = RelativeWindow(None, False, 0, True)
FUTURE = RelativeWindow(0, True, None, False)
AROUND = RelativeWindow(-5, True, 5, True)
INSIDE = RelativeWindow(-5, False, 5, False)
BEFORE = RelativeWindow(-10, True, -5, True)
AFTER = RelativeWindow(5, True, 10, True)

Case = tuple[RelativeWindow, int, Any, Any, Any]
"""Window, query, and the answers: available, reproducible, reproducible once the stream has ended."""

NEAREST: list[Case] = [
    (EVER, 9, "a", "a", "a"),
    (EVER, 14, "a", "a", "a"),
    (EVER, 15, "b", "b", "b"),  # a tie goes to the later
    (EVER, 26, "c", "c", "c"),
    (EVER, 30, "c", "c", "c"),  # nothing is nearer than the instant itself
    (EVER, 31, "c", WAIT, "c"),  # something at 32 would be as near
    (PAST, 9, NONE, NONE, NONE),
    (PAST, 29, "b", "b", "b"),
    (PAST, 31, "c", WAIT, "c"),
    (FUTURE, 9, "a", "a", "a"),
    (FUTURE, 11, "b", "b", "b"),
    (FUTURE, 31, NONE, WAIT, NONE),
    (AROUND, 5, "a", "a", "a"),
    (AROUND, 4, NONE, NONE, NONE),
    (AROUND, 35, "c", WAIT, "c"),
    (AROUND, 36, NONE, WAIT, NONE),
    (INSIDE, 15, NONE, NONE, NONE),  # both lie on the open ends
    (INSIDE, 24, "b", "b", "b"),
    (INSIDE, 35, NONE, WAIT, NONE),
    (BEFORE, 25, "b", "b", "b"),
    (BEFORE, 35, "c", "c", "c"),  # at the closed end of a window that lies before: nothing can follow in it
    (BEFORE, 36, "c", WAIT, "c"),
    (BEFORE, 18, "a", "a", "a"),
    (BEFORE, 14, NONE, NONE, NONE),
    (AFTER, 12, "b", "b", "b"),
    (AFTER, 26, NONE, WAIT, NONE),  # 31 to 36: may still come, although the stream has passed 26
    (AFTER, 22, "c", "c", "c"),
]
FIRST: list[Case] = [
    (EVER, 99, "a", "a", "a"),
    (AROUND, 15, "a", "a", "a"),
    (INSIDE, 15, NONE, NONE, NONE),
    (INSIDE, 25, NONE, NONE, NONE),
    (INSIDE, 26, "c", "c", "c"),
    (FUTURE, 20, "b", "b", "b"),
    (FUTURE, 31, NONE, WAIT, NONE),
    (PAST, 9, NONE, NONE, NONE),
    (AROUND, 36, NONE, WAIT, NONE),
    (AROUND, 4, NONE, NONE, NONE),
    (BEFORE, 45, NONE, WAIT, NONE),
    (BEFORE, 35, "c", "c", "c"),
]
LAST: list[Case] = [
    (EVER, 0, "c", WAIT, "c"),
    (AROUND, 15, "b", "b", "b"),  # at its closed end
    (AROUND, 17, "b", "b", "b"),
    (AROUND, 25, "c", "c", "c"),
    (AROUND, 26, "c", WAIT, "c"),
    (INSIDE, 25, NONE, NONE, NONE),  # nothing before 30 can follow 30
    (INSIDE, 26, "c", WAIT, "c"),
    (PAST, 30, "c", "c", "c"),
    (PAST, 31, "c", WAIT, "c"),
    (PAST, 9, NONE, NONE, NONE),
    (FUTURE, 20, "c", WAIT, "c"),
    (BEFORE, 25, "b", "b", "b"),
    (BEFORE, 36, "c", WAIT, "c"),
]


def ask(kind: Any, case: Case) -> None:
    window, query, available, reproducible, ended = case
    assert kind(window, reproducible=False).at(query, TIMES, VALUES) == available
    assert kind(window, reproducible=False).at(query, TIMES, VALUES, closed=True) == available
    assert kind(window, reproducible=True).at(query, TIMES, VALUES) == reproducible
    assert kind(window, reproducible=True).at(query, TIMES, VALUES, closed=True) == ended


@pytest.mark.parametrize("case", NEAREST, ids=str)
def test_nearest(case: Case) -> None:
    ask(Nearest, case)


@pytest.mark.parametrize("case", FIRST, ids=str)
def test_first(case: Case) -> None:
    ask(First, case)


@pytest.mark.parametrize("case", LAST, ids=str)
def test_last(case: Case) -> None:
    ask(Last, case)


@pytest.mark.parametrize(
    ("window", "query", "available", "reproducible", "ended"),
    [
        (EVER, 15, 150.0, 150.0, 150.0),
        (EVER, 12, 120.0, 120.0, 120.0),
        (EVER, 20, 200, 200, 200),  # as it is
        (EVER, 10, 100, 100, 100),  # at an instant that has a sample none before is needed
        (EVER, 9, NONE, NONE, NONE),
        (EVER, 31, NONE, WAIT, NONE),
        (AROUND, 15, 150.0, 150.0, 150.0),
        (AROUND, 14, NONE, NONE, NONE),  # 20 lies too late for it
        (INSIDE, 15, NONE, NONE, NONE),
        (PAST, 20, 200, 200, 200),
        (PAST, 21, NONE, NONE, NONE),
        (PAST, 31, NONE, WAIT, NONE),  # there may be a sample at 31
        (FUTURE, 20, 200, 200, 200),
        (FUTURE, 19, NONE, NONE, NONE),
        (BEFORE, 35, NONE, NONE, NONE),  # never: the window does not hold the instant
        (AFTER, 15, NONE, NONE, NONE),
    ],
)
def test_linear(window: RelativeWindow, query: int, available: Any, reproducible: Any, ended: Any) -> None:
    values = [100, 200, 300]
    assert Linear(window, reproducible=False).at(query, TIMES, values) == available
    assert Linear(window, reproducible=True).at(query, TIMES, values) == reproducible
    assert Linear(window, reproducible=True).at(query, TIMES, values, closed=True) == ended


def test_linear_takes_arrays() -> None:
    between = Linear(EVER, reproducible=True).at(2, [0, 4], [np.zeros(3), np.array([4.0, 8.0, -4.0])])
    np.testing.assert_allclose(between, [2, 4, -2])  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [Nearest, First, Last, Linear])
@pytest.mark.parametrize("dtype", [np.int64, np.uint64])
def test_times_may_be_an_array_and_more_than_a_double_holds(kind: Any, dtype: Any) -> None:
    base = 1 << 60
    times, values = np.array([base, base + 10, base + 21], dtype), np.arange(6.0).reshape(3, 2)
    for query in (base + 4, base + 6, base + 10, base + 15, base + 16):
        for reproducible in (False, True):
            lookup = kind(EVER, reproducible=reproducible)
            found = lookup.at(np.int64(query), times, values, closed=True)
            np.testing.assert_array_equal(found, lookup.at(query, times.tolist(), values, closed=True))


@pytest.mark.parametrize("query", [8, 9, 10, 11])
@pytest.mark.parametrize(("kind", "value"), [(Nearest, "c"), (First, "a"), (Last, "c")])
def test_of_samples_at_one_instant(kind: Any, value: str, query: int) -> None:
    assert kind(AROUND, reproducible=False).at(query, [10, 10, 10, 30], ["a", "b", "c", "d"]) == value


@pytest.mark.parametrize("kind", [Nearest, First, Last, Linear])
def test_an_empty_stream(kind: Any) -> None:
    assert kind(EVER, reproducible=False).at(0, [], []) is NONE
    assert kind(EVER, reproducible=True).at(0, [], []) is WAIT
    assert kind(EVER, reproducible=True).at(0, [], [], closed=True) is NONE


def test_none_is_a_value_like_any_other() -> None:
    assert Last(EVER, reproducible=False).at(0, [1], [None]) is None


def test_a_window_that_ends_before_it_begins_is_refused() -> None:
    with pytest.raises(ValueError, match="ends before it begins"):
        RelativeWindow(1, True, 0, True)


# ------------------------------------------------------------------------------------- what must always hold ---

ends = st.none() | st.integers(-12, 12)


@st.composite
def windows(draw: st.DrawFn) -> RelativeWindow:
    left, right = draw(ends), draw(ends)
    if left is not None and right is not None and left > right:
        left, right = right, left
    return RelativeWindow(left, draw(st.booleans()), right, draw(st.booleans()))


streams = st.lists(st.integers(-20, 20), unique=True, max_size=12).map(sorted)


def lies_in(window: RelativeWindow, delta: int) -> bool:
    after = window.left_ns is None or delta > window.left_ns or (window.left_closed and delta == window.left_ns)
    before = window.right_ns is None or delta < window.right_ns or (window.right_closed and delta == window.right_ns)
    return after and before


def by_definition(kind: Any, window: RelativeWindow, query: int, times: list[int]) -> object:
    """The answer for a stream that is known to its end, found by looking at every sample."""
    inside = [t for t in times if lies_in(window, t - query)]
    if kind is Linear:
        if query in inside:
            return Fraction(query)
        before = [t for t in inside if t < query]
        after = [t for t in inside if t > query]
        return Fraction(query) if before and after else NONE  # the value of a sample is its time
    if not inside:
        return NONE
    nearest = min(inside, key=lambda t: (abs(t - query), -t))
    return {Nearest: nearest, First: inside[0], Last: inside[-1]}[kind]


kinds = st.sampled_from([Nearest, First, Last, Linear])


@given(kinds, windows(), st.integers(-25, 25), streams)
def test_the_answers_are_those_of_the_definition(
    kind: Any, window: RelativeWindow, query: int, times: list[int]
) -> None:
    expected = by_definition(kind, window, query, times)
    for answer in (
        kind(window, reproducible=False).at(query, times, times),
        kind(window, reproducible=True).at(query, times, times, closed=True),
    ):
        assert answer == (pytest.approx(float(expected)) if isinstance(expected, Fraction) else expected)


@given(kinds, windows(), st.integers(-25, 25), streams)
def test_a_reproducible_answer_never_changes(kind: Any, window: RelativeWindow, query: int, times: list[int]) -> None:
    """Over a stream that grows sample by sample and ends: it waits, then says one thing for good."""
    lookup = kind(window, reproducible=True)
    answers = [lookup.at(query, times[:n], times[:n]) for n in range(len(times) + 1)]
    answers.append(lookup.at(query, times, times, closed=True))
    final = answers[-1]
    assert final is not WAIT
    said = [answer for answer in answers if answer is not WAIT]
    assert said == [final] * len(said)
    assert WAIT not in answers[len(answers) - len(said) :]


@given(kinds, windows(), st.integers(-25, 25), streams)
def test_it_waits_only_for_what_can_still_matter(
    kind: Any, window: RelativeWindow, query: int, times: list[int]
) -> None:
    """Where it waits, there is a future that changes the answer. Stamps are even, so that one fits between any two."""
    assume(window.left_ns != window.right_ns or window.left_ns is None or (window.left_closed and window.right_closed))
    even = RelativeWindow(
        None if window.left_ns is None else 2 * window.left_ns,
        window.left_closed,
        None if window.right_ns is None else 2 * window.right_ns,
        window.right_closed,
    )
    lookup, query, times = kind(even, reproducible=True), 2 * query, [2 * t for t in times]
    if lookup.at(query, times, times) is not WAIT:
        return
    ends_now = lookup.at(query, times, times, closed=True)
    after = range(times[-1] + 1 if times else query - 30, max([query, *times]) + 60)
    futures = [[*times, t] for t in after] + [[*times, query - 1, t] for t in after if query - 1 < t]
    rising = [future for future in futures if future == sorted(set(future))]
    assert any(lookup.at(query, future, future, closed=True) != ends_now for future in rising)
