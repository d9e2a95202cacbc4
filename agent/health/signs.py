"""When a sign is believed: hysteresis, and what delays tell of a clock. Pure: no clock, no I/O."""

from __future__ import annotations

from dataclasses import dataclass

from agent.types import Sample

MS, SECOND = 1_000_000, 1_000_000_000

JUMP_NS = SECOND // 2
"""A shift by more, from second to second, in the least delay between stamp and arrival."""
FEW = 5
"""Samples that make up such a second at least; of a slow source it lasts longer."""


@dataclass(slots=True)
class Latch:
    """Something that is on once its sign has lasted for ``on_ns`` without a break, and off after ``off_ns`` without."""

    on_ns: int
    off_ns: int
    on: bool = False
    _against_ns: int | None = None
    """Since when the sign says the contrary."""

    def update(self, t_ns: int, *, sign: bool) -> bool:
        """Take in the sign at ``t_ns``, in the order of time; returns whether it is on."""
        if sign == self.on:
            self._against_ns = None
            return self.on
        if self._against_ns is None:
            self._against_ns = t_ns
        if t_ns - self._against_ns >= (self.on_ns if sign else self.off_ns):
            self.on, self._against_ns = sign, None
        return self.on


@dataclass(slots=True)
class Delays:
    """The least delay from stamp to arrival, second by second.

    The least, because one sample may always be late: a network that has stalled sends what it held in a burst.
    """

    _usual_ns: int | None = None
    """Of the second before."""
    _least_ns: int = 0
    """Of this one so far."""
    _since_ns: int = 0
    _count: int = 0

    def jumped(self, sample: Sample) -> bool:
        """Take in a sample, in the order of arrival; whether it shows that the least delay is another than before."""
        delay_ns = sample.arrival_ns - sample.end_ns
        jumped = False
        if self._count >= FEW and sample.arrival_ns - self._since_ns >= SECOND:
            jumped = self._usual_ns is not None and abs(self._least_ns - self._usual_ns) > JUMP_NS
            self._usual_ns, self._count = self._least_ns, 0
        if not self._count:
            self._since_ns, self._least_ns = sample.arrival_ns, delay_ns
        self._least_ns = min(self._least_ns, delay_ns)
        self._count += 1
        return jumped
