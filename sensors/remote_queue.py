"""What waits between the broker and the clock that places it: packets of one remote source, in their order. Pure."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass

from sensors.remote_packet import Form, Packet


@dataclass(frozen=True, slots=True)
class Arrived:
    """A packet, and when it came."""

    packet: Packet
    arrival_ns: int

    @property
    def mark(self) -> bool:
        """Whether it is a watermark, which is never dropped."""
        return self.packet.form is Form.WATERMARK


class PacketQueue:
    """At most `size` samples: of more the oldest goes (``overflow``); of what is said once the newest is ``refused``.

    Watermarks do not count. They keep their place among the samples; of two in a row from one clock the further stands
    for both, since it says all that the other says.
    """

    def __init__(self, size: int, *, said_once: bool, drops: Counter[str]) -> None:
        self._size = size
        self._said_once = said_once
        self._drops = drops
        self._waiting: deque[Arrived] = deque()
        self._samples = 0

    def __len__(self) -> int:
        """Samples and watermarks."""
        return len(self._waiting)

    @property
    def oldest(self) -> Arrived | None:
        """What `pop` would give."""
        return self._waiting[0] if self._waiting else None

    def clear(self) -> None:
        """Forget all of it, uncounted: the connection it came by is gone."""
        self._waiting.clear()
        self._samples = 0

    def put(self, arrived: Arrived) -> None:
        """Take in what came."""
        if arrived.mark:
            if self._waiting and _one_says_all(self._waiting[-1], arrived):
                self._waiting.pop()
        elif self._samples < self._size:
            self._samples += 1
        elif self._said_once:
            self._drops["refused"] += 1
            return
        else:
            self._drop_oldest()
        self._waiting.append(arrived)

    def pop(self) -> Arrived:
        """The oldest; `IndexError` where nothing waits."""
        arrived = self._waiting.popleft()
        self._samples -= not arrived.mark
        return arrived

    def _drop_oldest(self) -> None:
        """Of the samples; the watermarks around it come to stand side by side."""
        self._drops["overflow"] += 1
        before: list[Arrived] = []
        while (oldest := self._waiting.popleft()).mark:
            before.append(oldest)
        if before and self._waiting and _one_says_all(before[-1], self._waiting[0]):
            before.pop()
        self._waiting.extendleft(reversed(before))


def _one_says_all(earlier: Arrived, later: Arrived) -> bool:
    """Whether both are watermarks of one clock."""
    return earlier.mark and later.mark and earlier.packet.clock == later.packet.clock
