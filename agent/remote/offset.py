"""How another host's monotonic clock stands to ours, from round-trip probes. Pure arithmetic on instants, no I/O.

A probe has the four stamps of NTP (RFC 5905, section 8) and of Lab Streaming Layer's `time_correction`: sent by us at
``t0``, received there at ``t1``, answered there at ``t2``, received by us at ``t3``; ``t0`` and ``t3`` on our clock,
the others on theirs. From them

    offset = ((t1 - t0) + (t2 - t3)) / 2        round trip = (t3 - t0) - (t2 - t1)

where the offset is theirs less ours. Whatever the two ways took, as long as neither took less than nothing, the true
offset lies between ``t2 - t3`` and ``t1 - t0``: within half a round trip of the middle.

LSL and NTP's clock filter go by the probe with the least round trip. Here the intervals of all probes are
intersected, each widened by what the clocks may have drifted since: that lies inside the interval of the quickest
probe, keeps the bound, and where one probe was quick on the way there and another on the way back, it is narrower than
either. That drift is bounded in the same way, by what the intervals of two minutes leave room for: the lines that pass
between the points of both ways (Berthaud, "Time synchronization over networks using convex closures", IEEE/ACM
Transactions on Networking 8(2), 2000), here recursively.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

from agent.clock import SECOND

RATE_LIMIT = 200e-6
"""The most by which the two clocks may run apart: two crystals of ±100 ppm."""
WANDER = 15e-6
"""By how much the drift may change within `HISTORY_NS`: PHI of RFC 5905, section 7.2, its frequency tolerance."""
HISTORY_NS = 120 * SECOND
"""How far back probes are compared for the drift."""
SLOT_NS = SECOND
"""Probes within that count as one for the drift: a burst."""
MAX_TRIP_NS = 5 * SECOND
"""An answer that took longer says nothing worth knowing."""


@dataclass(frozen=True, slots=True)
class OffsetEstimate:
    """Their clock less ours, at one instant."""

    offset_ns: int
    uncertainty_ns: int
    """The true offset is at most this far off, whatever the delays, if the clocks keep to `RATE_LIMIT`, `WANDER`."""
    rtt_ns: int
    """The least round trip of those within `HISTORY_NS`."""
    at_ns: int
    """The instant for which it holds, on our clock."""


@dataclass(slots=True)
class _Slot:
    """A burst of probes: the bounds of the offset at ``at_ns``, and of the drift since each earlier burst."""

    at_ns: int
    lo: float
    hi: float
    rtt_ns: int
    rate_lo: float = -RATE_LIMIT
    rate_hi: float = RATE_LIMIT


class OffsetFilter:
    """The offset of one remote clock.

    Bounds that exclude one another mean that a clock did what it should not: it stepped, was suspended, or is slewed
    beyond `RATE_LIMIT`. The filter then begins anew with the newest probe, and counts that in `restarts`.
    """

    def __init__(self) -> None:
        self.restarts = 0
        """How often the probes contradicted one another."""
        self._base_ns = 0  # offsets below are floats relative to that: they would lose nanoseconds after 104 days
        self._at_ns: int | None = None
        self._lo = self._hi = 0.0
        self._rate_lo, self._rate_hi = -RATE_LIMIT, RATE_LIMIT
        self._slots: deque[_Slot] = deque()

    @property
    def ready(self) -> bool:
        """Whether there was a probe."""
        return self._at_ns is not None

    @property
    def drift(self) -> tuple[float, float]:
        """How much faster their clock runs than ours, and the uncertainty of that: 1e-6 is one ppm."""
        return (self._rate_lo + self._rate_hi) / 2, (self._rate_hi - self._rate_lo) / 2

    def add(self, t0: int, t1: int, t2: int, t3: int) -> bool:
        """Take in a probe; False, and nothing is changed, for one that no two clocks can have measured."""
        rtt_ns = (t3 - t0) - (t2 - t1)
        if not (t0 <= t3 <= t0 + MAX_TRIP_NS and t1 <= t2 and rtt_ns >= 0):
            return False
        at_ns = (t0 + t3) // 2
        if self._at_ns is None:
            self._base_ns = t1 - t0
        slack = RATE_LIMIT * (t3 - t0) / 2  # the bounds hold at t1 and t2, which lie somewhere between t0 and t3
        slot = _Slot(at_ns, t2 - t3 - self._base_ns - slack, t1 - t0 - self._base_ns + slack, rtt_ns)
        if self._at_ns is not None and not (self._narrow_rate(slot) and self._narrow_offset(slot)):
            self.restarts += 1
            self._at_ns = None
        if self._at_ns is None:
            slot.rate_lo, slot.rate_hi = self._rate_lo, self._rate_hi = -RATE_LIMIT, RATE_LIMIT
            self._slots = deque([slot])
            self._at_ns, self._lo, self._hi = at_ns, slot.lo, slot.hi
        return True

    def at(self, local_ns: int) -> OffsetEstimate:
        """The offset at an instant of ours; before the first probe a `LookupError`."""
        offset_ns, uncertainty_ns = self._at(local_ns)
        return OffsetEstimate(offset_ns, uncertainty_ns, min(slot.rtt_ns for slot in self._slots), local_ns)

    def local_ns(self, remote_ns: int) -> tuple[int, int]:
        """Our instant of one of theirs, and its uncertainty; before the first probe a `LookupError`."""
        near_ns = remote_ns - self._at(remote_ns - self._base_ns)[0]
        offset_ns, uncertainty_ns = self._at(near_ns)
        return remote_ns - offset_ns, uncertainty_ns

    def _at(self, local_ns: int) -> tuple[int, int]:
        """Offset and uncertainty."""
        if self._at_ns is None:
            raise LookupError("the remote clock has not been probed yet")
        lo, hi = self._carry(self._lo, self._hi, local_ns - self._at_ns)
        return self._base_ns + round((lo + hi) / 2), math.ceil((hi - lo) / 2) + 1

    def _carry(self, lo: float, hi: float, by_ns: int) -> tuple[float, float]:
        """The bounds of the offset so much later (or earlier), as the drift allows."""
        slow, fast = self._rate_lo * by_ns, self._rate_hi * by_ns
        return lo + min(slow, fast), hi + max(slow, fast)

    def _narrow_offset(self, new: _Slot) -> bool:
        assert self._at_ns is not None
        at_ns = max(self._at_ns, new.at_ns)
        old_lo, old_hi = self._carry(self._lo, self._hi, at_ns - self._at_ns)
        new_lo, new_hi = self._carry(new.lo, new.hi, at_ns - new.at_ns)
        self._at_ns, self._lo, self._hi = at_ns, max(old_lo, new_lo), min(old_hi, new_hi)
        return self._lo <= self._hi

    def _narrow_rate(self, new: _Slot) -> bool:
        slots = self._slots
        while slots and slots[0].at_ns < new.at_ns - HISTORY_NS:
            slots.popleft()
        for old in slots:
            apart_ns = new.at_ns - old.at_ns
            if apart_ns >= SLOT_NS:
                new.rate_lo = max(new.rate_lo, (new.lo - old.hi) / apart_ns - WANDER)
                new.rate_hi = min(new.rate_hi, (new.hi - old.lo) / apart_ns + WANDER)
        if slots and new.at_ns - slots[-1].at_ns < SLOT_NS:
            _merge(slots[-1], new)
        else:
            slots.append(new)
        self._rate_lo = max(slot.rate_lo for slot in slots)
        self._rate_hi = min(slot.rate_hi for slot in slots)
        return self._rate_lo <= self._rate_hi


def _merge(slot: _Slot, new: _Slot) -> None:
    """Take a probe of the same burst into its slot."""
    slack = RATE_LIMIT * abs(new.at_ns - slot.at_ns)
    slot.lo, slot.hi = max(slot.lo, new.lo - slack), min(slot.hi, new.hi + slack)
    slot.rate_lo, slot.rate_hi = max(slot.rate_lo, new.rate_lo), min(slot.rate_hi, new.rate_hi)
    slot.rtt_ns = min(slot.rtt_ns, new.rtt_ns)
