"""A bounded hand-over, by one of the policies of `agent.delivery.policy`. Pure: no clock, no thread, no I/O."""

from __future__ import annotations

from collections import Counter, deque
from typing import Generic, Protocol, TypeVar, final

from agent.delivery.policy import Delivery, MaxAge, NeverDrop, Reason, Throttle
from agent.types import Watermark


class Stamped(Protocol):
    """What can be judged by when it was captured."""

    @property
    def end_ns(self) -> int:
        """When the world had produced it."""


T = TypeVar("T", bound=Stamped)


class Mailbox(Generic[T]):
    """A bounded hand-over between one producer and one reader, in the order in which things were put.

    Watermarks are never dropped and not counted as items: they keep their place among the items, and of one source
    without an item in between only the furthest stays, since it says all that the others say. So at most ``size``
    items and ``size + 1`` watermarks a source are in memory.

    Not thread-safe: whoever shares it between threads locks.
    """

    def __init__(self, delivery: Delivery, *, drops: Counter[str] | None = None) -> None:
        """`drops` counts what is left out, by `Reason`."""
        self.drops: Counter[str] = Counter() if drops is None else drops
        self._size = delivery.size
        self._never = isinstance(delivery, NeverDrop)
        self._age_ns = delivery.age_ns if isinstance(delivery, MaxAge) else None
        self._gate = _Gate(delivery.interval_ns) if isinstance(delivery, Throttle) else None
        self._admitted_ns: int | None = None  # what `admits` let through and has not been put yet
        self._waiting: deque[T | _Marks] = deque()  # between two items at most one group of marks
        self._items = 0

    def __len__(self) -> int:
        """Items that wait, watermarks not counted."""
        return self._items

    @property
    def empty(self) -> bool:
        """Whether neither items nor watermarks wait."""
        return not self._waiting

    @property
    def refuses(self) -> bool:
        """Whether the next item would be refused: a producer that can wait does so as long as this holds."""
        return self._never and self._items >= self._size

    def admits(self, end_ns: int) -> bool:
        """Whether an item of that stamp is wanted, for producers to whom making it is dear; counts what is not.

        To be asked once for each item. The item, put next, is not asked for again.
        """
        if self._gate is None:
            return True
        if self._gate.opens(end_ns):
            self._admitted_ns = end_ns
            return True
        self.drops[Reason.THROTTLED] += 1
        return False

    def put(self, item: T | Watermark, now_ns: int) -> Reason | None:
        """Hand over; says why an item, this one or an older one, was left out for it, which is counted too."""
        if isinstance(item, Watermark):
            self._mark(item)
            return None
        if self._gate is not None:
            wanted = self._admitted_ns == item.end_ns or self.admits(item.end_ns)
            self._admitted_ns = None
            if not wanted:
                return Reason.THROTTLED
        reason = None
        if self._items >= self._size:
            if self._never:
                self.drops[Reason.REFUSED] += 1
                return Reason.REFUSED
            reason = self._drop_oldest(now_ns)
        self._waiting.append(item)
        self._items += 1
        return reason

    def take(self, now_ns: int) -> T | Watermark | None:
        """What is next; None when nothing waits any more."""
        waiting = self._waiting
        while waiting:
            head = waiting[0]
            if isinstance(head, _Marks):
                mark = head.pop()
                if not head.furthest:
                    waiting.popleft()
                return mark
            if self._age_ns is None or now_ns - head.end_ns <= self._age_ns:
                waiting.popleft()
                self._items -= 1
                return head
            self._drop_oldest(now_ns)
        return None

    def _mark(self, mark: Watermark) -> None:
        last = self._waiting[-1] if self._waiting else None
        if not isinstance(last, _Marks):
            last = _Marks()
            self._waiting.append(last)
        last.add(mark)

    def _drop_oldest(self, now_ns: int) -> Reason:
        """Leave out the oldest item; marks that come to stand side by side become one group."""
        waiting = self._waiting
        oldest, marks = waiting.popleft(), None
        if isinstance(oldest, _Marks):
            marks = oldest
            oldest = waiting.popleft()
            assert not isinstance(oldest, _Marks), "groups of marks never stand side by side"
        self._items -= 1
        if marks is not None:
            after = waiting[0] if waiting else None
            if isinstance(after, _Marks):
                waiting.popleft()
                for mark in after.furthest.values():
                    marks.add(mark)
            waiting.appendleft(marks)
        aged = self._age_ns is not None and now_ns - oldest.end_ns > self._age_ns
        reason = Reason.AGED if aged else Reason.OVERFLOW
        self.drops[reason] += 1
        return reason


@final
class _Marks:
    """Watermarks between two items: of each source the furthest."""

    __slots__ = ("furthest",)

    def __init__(self) -> None:
        self.furthest: dict[str, Watermark] = {}

    def add(self, mark: Watermark) -> None:
        known = self.furthest.get(mark.source)
        if known is None or known.t_ns < mark.t_ns:
            self.furthest[mark.source] = mark

    def pop(self) -> Watermark:
        return self.furthest.pop(next(iter(self.furthest)))


class _Gate:
    """Lets the first stamp of each interval through, as `Throttle` says."""

    def __init__(self, interval_ns: int) -> None:
        self._interval_ns = interval_ns
        self._begin_ns: int | None = None  # of the interval whose first stamp was let through last

    def opens(self, t_ns: int) -> bool:
        begin_ns, interval_ns = self._begin_ns, self._interval_ns
        if begin_ns is None or t_ns < begin_ns - interval_ns:
            self._begin_ns = t_ns
            return True
        if t_ns < begin_ns + interval_ns:
            return False
        self._begin_ns = t_ns - (t_ns - begin_ns) % interval_ns
        return True
