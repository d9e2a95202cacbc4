"""Sets of samples, one of each stream, that bear the very same stamp: ExactTime of ROS ``message_filters``."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Sequence
from typing import Any

_ABSENT = object()


class ExactTime:
    """Sets of samples that bear the very same stamp.

    A set leaves when it is complete, and takes with it what was older and incomplete. Of two samples of one stream
    with the same stamp, the later to come counts.
    """

    def __init__(self, topics: int, queue_size: int) -> None:
        """Hold at most ``queue_size`` incomplete sets; of more, the oldest goes. 0 is no bound, as in ROS."""
        if topics < 1 or queue_size < 0:
            raise ValueError(f"topics {topics} must be 1 or more, queue_size {queue_size} not below 0 (0: no bound)")
        self._topics = topics
        self._queue_size = queue_size
        self._sets: dict[int, _Set] = {}
        self._stamps: list[int] = []  # of `_sets`, sorted
        self.dropped = 0
        """Samples that were given up, because their set did not become complete or because another took their place."""

    @property
    def held(self) -> int:
        """Incomplete sets in memory."""
        return len(self._sets)

    def add(self, topic: int, t_ns: int, item: Any) -> list[tuple[Any, ...]]:
        """Take in a sample; the sets that it released, one item a topic in the order of the topics."""
        found = self._sets.get(t_ns)
        if found is None:
            found = self._sets[t_ns] = _Set(self._topics)
            if not self._stamps or t_ns > self._stamps[-1]:
                self._stamps.append(t_ns)
            else:
                insort(self._stamps, t_ns)
        if found.items[topic] is _ABSENT:
            found.missing -= 1
        else:
            self.dropped += 1
        found.items[topic] = item
        if not found.missing:
            del self._sets[t_ns]
            done = bisect_right(self._stamps, t_ns)
            self._give_up(self._stamps[: done - 1])
            del self._stamps[:done]
            return [tuple(found.items)]
        if 0 < self._queue_size < len(self._stamps):
            self._give_up([self._stamps.pop(0)])
        return []

    def _give_up(self, stamps: Sequence[int]) -> None:
        for stamp in stamps:
            self.dropped += self._topics - self._sets.pop(stamp).missing


class _Set:
    """The samples of one stamp. How many are missing is counted: items may be anything, and arrays do not compare."""

    __slots__ = ("items", "missing")

    def __init__(self, topics: int) -> None:
        self.items: list[Any] = [_ABSENT] * topics
        self.missing = topics
