"""Sets of samples, one of each stream, as close together as can be: ApproximateTime of ROS ``message_filters``.

Samples come one by one, and each arrival gives what it released. The stamps of a stream are expected to rise.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from operator import index
from typing import Any


class _Stream:
    """The samples of one topic: first the *past*, which the search has gone by, then the *queue*.

    While there is a candidate, the oldest sample is its member.
    """

    __slots__ = ("bound_ns", "items", "past", "times_ns")

    def __init__(self, bound_ns: int) -> None:
        self.bound_ns = bound_ns
        self.times_ns: deque[int] = deque()
        self.items: deque[Any] = deque()
        self.past = 0

    def forget(self, count: int) -> None:
        """Drop the ``count`` oldest samples; the queue begins with the next."""
        for _ in range(count):
            self.times_ns.popleft()
            self.items.popleft()
        self.past = 0


class ApproximateTime:
    """Sets whose stamps lie as close together as can be had: the adaptive algorithm of ROS ``message_filters``.

    Sets do not share samples and do not cross, and which sets come out depends on the stamps alone, not on which
    stream arrived first (unless a queue overflows). The description is that of the ROS wiki,
    ``message_filters/ApproximateTime``:

    - When every queue has a sample, the latest of the fronts is the *pivot*, and the fronts are the first *candidate*.
    - The earliest front is gone by again and again; what then stands in front is a better candidate when what it gains
      at its start outweighs what it loses at its end times ``1 + age_penalty``.
    - The candidate leaves when no later one that holds the pivot can be better. Where a queue has run empty, its next
      sample is assumed at the earliest instant at which it can come: the pivot's, or that of the last sample and the
      topic's lower bound between two.
    - When a topic holds more than ``queue_size`` samples its oldest goes, and with it the candidate. That topic gives
      no pivot until it has been shown that the lost sample could not have been the better match.
    """

    def __init__(
        self,
        topics: int,
        queue_size: int,
        *,
        age_penalty: float = 0.1,
        max_interval_ns: int | None = None,
        lower_bounds_ns: Sequence[int] | None = None,
    ) -> None:
        """Give up sets wider than ``max_interval_ns``; ``lower_bounds_ns`` are, by topic, the least between samples."""
        bounds = [0] * topics if lower_bounds_ns is None else [index(bound_ns) for bound_ns in lower_bounds_ns]
        if topics < 1 or queue_size < 1:
            raise ValueError(f"topics {topics} and queue_size {queue_size} must be 1 or more")
        if not 0 <= age_penalty < float("inf"):
            raise ValueError(f"age_penalty {age_penalty} must not be below 0")
        if max_interval_ns is not None and max_interval_ns < 0:
            raise ValueError(f"max_interval_ns {max_interval_ns} must not be below 0")
        if len(bounds) != topics or min(bounds) < 0:
            raise ValueError(f"lower_bounds_ns {bounds} must be {topics} numbers, none below 0")
        self._streams = [_Stream(bound_ns) for bound_ns in bounds]
        self._queue_size = queue_size
        # (1 + penalty) as a fraction: durations times it are compared exactly, as integers.
        self._factor, self._unit = (1 + age_penalty).as_integer_ratio()
        self._max_interval_ns = max_interval_ns
        self._empty = topics  # queues without a sample
        self._lossy = 0  # bit i: topic i has lost a sample that might have been the better match
        self._pivot = -1  # -1: there is no candidate
        self._pivot_ns = self._start_ns = self._end_ns = 0  # of the candidate
        self.overflows = [0] * topics
        """By topic the samples that gave way because more than ``queue_size`` were held."""
        self.disordered = [0] * topics
        """By topic the samples that came earlier than ``lower_bounds_ns`` allows, or with a stamp that runs back."""

    @property
    def held(self) -> tuple[int, ...]:
        """By topic the samples in memory; never more than ``queue_size``."""
        return tuple(len(stream.items) for stream in self._streams)

    def add(self, topic: int, t_ns: int, item: Any) -> list[tuple[Any, ...]]:
        """Take in a sample; the sets that it released, oldest first, one item a topic in the order of the topics."""
        stream = self._streams[topic]
        times_ns = stream.times_ns
        t_ns = index(t_ns)  # a numpy.int64 would overflow where durations are compared
        if times_ns and t_ns - times_ns[-1] < stream.bound_ns:
            self.disordered[topic] += 1
        times_ns.append(t_ns)
        stream.items.append(item)
        released: list[tuple[Any, ...]] = []
        if stream.past == len(times_ns) - 1:
            self._empty -= 1
            if not self._empty:
                self._search(released)
        if len(times_ns) > self._queue_size:
            self._overflow(topic, released)
        return released

    def _overflow(self, topic: int, released: list[tuple[Any, ...]]) -> None:
        self.overflows[topic] += 1
        self._lossy |= 1 << topic
        if self._pivot < 0:
            self._streams[topic].forget(1)
            return
        for stream in self._streams:
            stream.past = 0
        self._streams[topic].forget(1)
        self._pivot = -1
        self._empty = sum(not stream.items for stream in self._streams)
        if not self._empty:
            self._search(released)

    def _search(self, released: list[tuple[Any, ...]]) -> None:
        """Go on until a queue is empty."""
        streams = self._streams
        fronts_ns = [stream.times_ns[stream.past] for stream in streams]
        while True:
            start_ns, end_ns = min(fronts_ns), max(fronts_ns)
            start = fronts_ns.index(start_ns)  # of several the first, but of several ends the last
            stream = streams[start]
            if self._lossy:
                self._lossy &= 1 << _last(fronts_ns, end_ns)
            if self._pivot < 0:
                if self._lossy or (self._max_interval_ns is not None and end_ns - start_ns > self._max_interval_ns):
                    stream.forget(1)
                    if not stream.items:
                        self._empty += 1
                        return
                    fronts_ns[start] = stream.times_ns[0]
                    continue
                self._pivot, self._pivot_ns = _last(fronts_ns, end_ns), end_ns
                self._take(start_ns, end_ns)
            elif self._better(start_ns, end_ns):
                self._take(start_ns, end_ns)
            stream.past += 1
            ran_empty = stream.past == len(stream.items)
            if start == self._pivot or self._optimal(end_ns) or (ran_empty and self._provable()):
                self._release(released)
                if self._empty:
                    return
                fronts_ns = [stream.times_ns[0] for stream in streams]
            elif ran_empty:
                self._empty += 1
                return
            else:
                fronts_ns[start] = stream.times_ns[stream.past]

    def _take(self, start_ns: int, end_ns: int) -> None:
        """Make the fronts the candidate; what was gone by is of no more use."""
        self._start_ns, self._end_ns = start_ns, end_ns
        for stream in self._streams:
            if stream.past:
                stream.forget(stream.past)

    def _better(self, start_ns: int, end_ns: int) -> bool:
        """Whether a candidate gains more at its start than it loses at its end."""
        return (end_ns - self._end_ns) * self._factor < (start_ns - self._start_ns) * self._unit

    def _optimal(self, end_ns: int) -> bool:
        """Whether no candidate that ends at ``end_ns`` or later and holds the pivot can be better."""
        return not self._better(self._pivot_ns, end_ns)

    def _provable(self) -> bool:
        """Whether the candidate is the best even if what the empty queues wait for came as early as it can."""
        streams = self._streams
        pasts = [stream.past for stream in streams]
        fronts_ns = [self._earliest_ns(stream, past) for stream, past in zip(streams, pasts, strict=True)]
        while True:
            start_ns, end_ns = min(fronts_ns), max(fronts_ns)
            if self._optimal(end_ns):
                return True
            if self._better(start_ns, end_ns):
                return False
            start = fronts_ns.index(start_ns)  # before the pivot, hence one that has come
            pasts[start] += 1
            fronts_ns[start] = self._earliest_ns(streams[start], pasts[start])

    def _earliest_ns(self, stream: _Stream, index: int) -> int:
        """The stamp of a sample, or the least that it can be when it comes."""
        if index < len(stream.times_ns):
            return stream.times_ns[index]
        return max(stream.times_ns[-1] + stream.bound_ns, self._pivot_ns)

    def _release(self, released: list[tuple[Any, ...]]) -> None:
        """Let the candidate go; what was gone by since it was taken may serve the next."""
        self._pivot = -1
        released.append(tuple([stream.items[0] for stream in self._streams]))
        for stream in self._streams:
            stream.forget(1)
        self._empty = sum(not stream.items for stream in self._streams)


def _last(times_ns: list[int], t_ns: int) -> int:
    """The last index at which ``t_ns`` stands."""
    return max(index for index, other_ns in enumerate(times_ns) if other_ns == t_ns)
