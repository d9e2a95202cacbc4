r"""What a stream was at an instant: the nearest, first or last sample of a window around it, or between two of them.

The semantics are those of \psi's interpolators. A stream is a sequence of samples whose times rise strictly, so what
comes later is later than all that has come. (Where times repeat nevertheless, `Nearest` and `Last` take the last of
them, `First` and `Linear` the first.) Each lookup costs O(log n).

One difference, on purpose: where a window begins after the queried instant, or at it but without it, \psi's
reproducible ``Nearest`` says that there is nothing as soon as the stream has reached the instant, although a later
sample may lie in the window. Here it waits, so that a reproducible answer never changes.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from operator import index
from typing import Any, Protocol, TypeVar, cast

T = TypeVar("T")


class Verdict(Enum):
    """Why there is no value."""

    NONE = auto()
    """There is none, and there never will be."""
    WAIT = auto()
    """It cannot be known yet."""


@dataclass(frozen=True, slots=True)
class RelativeWindow:
    """From ``query + left_ns`` to ``query + right_ns``; None is unbounded on that side.

    Raises `ValueError` where it ends before it begins.
    """

    left_ns: int | None
    left_closed: bool
    right_ns: int | None
    right_closed: bool

    def __post_init__(self) -> None:
        if self.left_ns is not None and self.right_ns is not None and self.left_ns > self.right_ns:
            raise ValueError(f"a window from {self.left_ns} ns to {self.right_ns} ns ends before it begins")

    def indices(self, query_ns: int, times_ns: Sequence[int]) -> tuple[int, int]:
        """The samples ``[first, end)`` that lie in the window around ``query_ns``; empty where ``first >= end``."""
        first, end = 0, len(times_ns)
        if self.left_ns is not None:
            find = bisect_left if self.left_closed else bisect_right
            first = find(times_ns, query_ns + self.left_ns)
        if self.right_ns is not None:
            find = bisect_right if self.right_closed else bisect_left
            end = find(times_ns, query_ns + self.right_ns)
        return first, end

    def passed(self, query_ns: int, times_ns: Sequence[int]) -> bool:
        """Whether nothing that comes after the last of ``times_ns`` can lie in the window around ``query_ns``."""
        return self.right_ns is not None and len(times_ns) > 0 and times_ns[-1] >= query_ns + self.right_ns

    def holds_query(self) -> bool:
        """Whether the queried instant itself lies in the window."""
        begun = self.left_ns is None or self.left_ns < 0 or (self.left_ns == 0 and self.left_closed)
        return begun and (self.right_ns is None or self.right_ns > 0 or (self.right_ns == 0 and self.right_closed))


class Lookup(Protocol):
    """One way of asking a stream for its value at an instant."""

    def at(self, query_ns: int, times_ns: Sequence[int], values: Sequence[T], *, closed: bool = False) -> T | Verdict:
        """The value at ``query_ns`` of a stream with ``values`` at ``times_ns``, which rise.

        ``closed`` says that the stream has ended. An available lookup never answers `Verdict.WAIT`.
        """


@dataclass(frozen=True, slots=True)
class _InWindow:
    """What the lookups have in common."""

    window: RelativeWindow
    reproducible: bool = field(kw_only=True)
    """Answer only when nothing that may still come can change the answer; else from what has come."""


class Nearest(_InWindow):
    """The sample of the window that is nearest to the instant; of two equally near ones the later."""

    __slots__ = ()

    def at(self, query_ns: int, times_ns: Sequence[int], values: Sequence[T], *, closed: bool = False) -> T | Verdict:
        first, end = self.window.indices(query_ns, times_ns)
        if self.reproducible and not closed:
            # What comes after a sample at or past the instant is farther from it than that sample.
            near = first < end and times_ns[-1] >= query_ns
            if not (near or self.window.passed(query_ns, times_ns)):
                return Verdict.WAIT
        if first >= end:
            return Verdict.NONE
        after = bisect_right(times_ns, query_ns, first, end)
        if after == end:
            return values[after - 1]
        if after > first and _apart(query_ns, times_ns[after]) > _apart(times_ns[after - 1], query_ns):
            return values[after - 1]
        return values[bisect_right(times_ns, times_ns[after], after, end) - 1]


class First(_InWindow):
    """The first sample of the window."""

    __slots__ = ()

    def at(self, query_ns: int, times_ns: Sequence[int], values: Sequence[T], *, closed: bool = False) -> T | Verdict:
        first, end = self.window.indices(query_ns, times_ns)
        if first < end:
            return values[first]
        wait = self.reproducible and not closed and not self.window.passed(query_ns, times_ns)
        return Verdict.WAIT if wait else Verdict.NONE


class Last(_InWindow):
    """The last sample of the window."""

    __slots__ = ()

    def at(self, query_ns: int, times_ns: Sequence[int], values: Sequence[T], *, closed: bool = False) -> T | Verdict:
        first, end = self.window.indices(query_ns, times_ns)
        if self.reproducible and not closed and not self.window.passed(query_ns, times_ns):
            return Verdict.WAIT
        return values[end - 1] if first < end else Verdict.NONE


class Linear(_InWindow):
    """The value between the last sample before the instant and the first at or after it, both of the window.

    A sample at the instant itself is the answer as it is. Values are numbers or arrays: what knows ``+`` and ``*``.
    """

    __slots__ = ()

    def at(self, query_ns: int, times_ns: Sequence[int], values: Sequence[T], *, closed: bool = False) -> T | Verdict:
        if not self.window.holds_query():
            return Verdict.NONE
        first, end = self.window.indices(query_ns, times_ns)
        after = bisect_left(times_ns, query_ns, first, max(first, end))
        if first < end and after < end:
            after_ns = times_ns[after]
            if after_ns == query_ns:
                return values[after]
            if after > first:
                before_ns = times_ns[after - 1]
                share = _apart(before_ns, query_ns) / _apart(before_ns, after_ns)
                return _between(values[after - 1], values[after], share)
        wait = self.reproducible and not closed and not (len(times_ns) and times_ns[-1] >= query_ns)
        return Verdict.WAIT if wait else Verdict.NONE


def _apart(before_ns: int, after_ns: int) -> int:
    """From one instant to the next; numpy's integers of two kinds would become a float, and lose nanoseconds."""
    return index(after_ns) - index(before_ns)


def _between(before: T, after: T, share: float) -> T:
    """``share`` of the way from one value to the other."""
    one: Any = before
    other: Any = after
    return cast("T", one * (1 - share) + other * share)
