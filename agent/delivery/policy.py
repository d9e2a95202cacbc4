r"""Delivery policies: what waits where a producer hands over to a slower reader, what gives way, and what is counted.

What a `Delivery` says an `agent.delivery.mailbox.Mailbox` does, at a cost of O(1) an item.

===============  ====================================================  ==========================================
policy           what is delivered                                     known elsewhere as
===============  ====================================================  ==========================================
`Latest`         the newest item only                                  \psi LatestMessage, ROS queue_size=1
`Queue`          the newest ``size``                                   \psi QueueSizeConstrained, ROS KEEP_LAST
`MaxAge`         what is not older than ``age_ns`` when it is taken    \psi LatencyConstrained, DDS lifespan
`Throttle`       the first item of each ``interval_ns`` of stamps      ROS topic_tools throttle, a packet thinner
`NeverDrop`      everything: who produces waits, or is refused         \psi Throttle, ROS KEEP_ALL
===============  ====================================================  ==========================================

\psi's Unlimited is not offered: no queue is without a bound.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

MAX_SIZE = 1024
"""Items that may wait at most, whatever the policy."""


@dataclass(frozen=True, slots=True)
class Latest:
    """One item waits; a newer one takes its place."""

    size: ClassVar[int] = 1


@dataclass(frozen=True, slots=True)
class Queue:
    """`size` items wait; of more the oldest goes."""

    size: int
    """1..`MAX_SIZE`."""

    def __post_init__(self) -> None:
        _check(self, size=self.size)


@dataclass(frozen=True, slots=True)
class MaxAge:
    """What is older than `age_ns` when it would be taken is left out, wherever it was held up."""

    age_ns: int
    """From the end of capture; exactly that old is still delivered. Above 0."""
    size: int = 64
    """Items that wait at most; of more the oldest goes."""

    def __post_init__(self) -> None:
        _check(self, size=self.size, ns=self.age_ns)


@dataclass(frozen=True, slots=True)
class Throttle:
    """The first item of each interval is kept, whatever the reader does.

    It goes by the stamps alone, so the same stream is thinned out in the same way each time. The intervals follow one
    another from the first item on, so that jitter neither halves the rate nor moves it. A stamp from before the
    interval of the one that was kept last is late and left out; one from more than an interval before it is a clock
    that jumped back, and begins anew.
    """

    interval_ns: int
    """Above 0."""
    size: int = 4
    """Items that wait at most; of more the oldest goes."""

    def __post_init__(self) -> None:
        _check(self, size=self.size, ns=self.interval_ns)


@dataclass(frozen=True, slots=True)
class NeverDrop:
    """What was accepted is delivered. When `size` items wait the producer waits too; what can not wait is refused."""

    size: int = 64
    """1..`MAX_SIZE`."""

    def __post_init__(self) -> None:
        _check(self, size=self.size)


Delivery = Latest | Queue | MaxAge | Throttle | NeverDrop
"""How one source hands over."""


class Reason(StrEnum):
    """Why an item was left out; the names under which it is counted."""

    OVERFLOW = "overflow"
    """More were waiting than may: the oldest went."""
    AGED = "aged"
    """It was too old when it would have been taken."""
    THROTTLED = "throttled"
    """Its interval had an item already."""
    REFUSED = "refused"
    """Nothing that waits may go, and who produced it can not wait."""


def _check(policy: Delivery, *, size: int, ns: int = 1) -> None:
    if not 1 <= size <= MAX_SIZE or ns <= 0:
        raise ValueError(f"{policy}: from 1 to {MAX_SIZE} items may wait, and a time is above 0")
