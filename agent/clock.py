"""Clocks: the monotonic clock that stamps everything, its relation to wall-clock time, and the virtual clock of replay.

Inside the program time is an ``int`` of nanoseconds of `time.monotonic_ns`. Wall-clock time appears only where
something is printed or published, and always by way of `WallClock`.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from bisect import bisect_right
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

MS = 1_000_000
"""One millisecond, in ns."""
SECOND = 1_000_000_000
"""One second, in ns."""


class Clock(Protocol):
    """Tells the instant, and waits for one."""

    def now_ns(self) -> int:
        """The present instant."""

    async def sleep_until(self, t_ns: int) -> None:
        """Return once `now_ns` has reached ``t_ns``; at the next turn of the loop when it already has."""


class RealClock:
    """The machine's monotonic clock."""

    def now_ns(self) -> int:
        return time.monotonic_ns()

    async def sleep_until(self, t_ns: int) -> None:
        await asyncio.sleep(max(0, t_ns - time.monotonic_ns()) / SECOND)


class VirtualClock:
    """A clock that stands still until it is told to go on: replay and tests run on it."""

    def __init__(self, start_ns: int = 0) -> None:
        self._now_ns = start_ns
        self._order = itertools.count()
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []

    def now_ns(self) -> int:
        return self._now_ns

    async def sleep_until(self, t_ns: int) -> None:
        if t_ns <= self._now_ns:
            await asyncio.sleep(0)
            return
        sleeper: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (t_ns, next(self._order), sleeper))
        await sleeper

    def next_ns(self) -> int | None:
        """The instant for which the first sleeper waits; None when nobody sleeps."""
        return self._sleepers[0][0] if self._sleepers else None

    def advance_to(self, t_ns: int) -> None:
        """Set the clock to ``t_ns``, never backwards, and wake those who slept until then, in their order."""
        self._now_ns = max(self._now_ns, t_ns)
        while self._sleepers and self._sleepers[0][0] <= self._now_ns:
            sleeper = heapq.heappop(self._sleepers)[2]
            if not sleeper.done():
                sleeper.set_result(None)


@dataclass(slots=True)
class _Segment:
    """From ``start_ns`` until the next: wall = mono + offset_ns, but neither below the floor nor above the ceiling."""

    start_ns: int
    offset_ns: int
    floor_ns: int
    """Also what it says at ``start_ns``."""
    followed: bool = False
    """Whether it begins with a backward step that was followed."""
    ceiling_ns: int = 1 << 62
    """Lowered when the wall clock turns out to have been set back before anybody asked."""

    def wall_ns(self, mono_ns: int) -> int:
        return min(max(mono_ns + self.offset_ns, self.floor_ns), self.ceiling_ns)


class WallClock:
    """Wall-clock time of monotonic instants, steady under steps of the wall clock.

    An instant that was once converted keeps its value, and converted time never runs backwards, as in the calibration
    of Microsoft's Platform for Situated Intelligence: a forward step holds from its instant on; after a backward step
    time stands still, at what was converted last, until the wall clock has caught up; what was not converted before
    the step never exceeds what the clock was set to; nothing is slewed. Unlike there, a backward step of more than
    `FOLLOW_BACK_NS` is followed at once and counted in `steps_back`: a clock that is wrong for hours is worse than
    one jump; and while nothing was converted yet, time stands still at what it would have been. An instant converts
    by the calibration that held at it, however old it is.
    """

    FOLLOW_BACK_NS = 60 * SECOND
    """A backward step longer than this, from one calibration to the next, is followed."""
    KEEP = 4096
    """Steps that are remembered; an instant older than all of them converts by the oldest."""
    TRIES = 5
    """Readings of both clocks of which `read` takes the quickest…"""
    QUICK_NS = 50_000
    """…unless one was as quick as this before."""

    def __init__(self, *, tolerance_ns: int = 0) -> None:
        """Differences of at most ``tolerance_ns`` from the present calibration are taken for jitter of the reading."""
        self._tolerance_ns = tolerance_ns
        self._segments: list[_Segment] = []
        self._calibrated_ns = 0
        self._newest_ns: int | None = None  # the latest instant that was converted…
        self._said_ns: int | None = None  # …to this; None again after a backward step was followed
        self.steps_back = 0
        """Backward steps that were followed."""

    def calibrate(self, mono_ns: int, wall_ns: int) -> None:
        """Say that the wall clock read ``wall_ns`` (since the Unix epoch) at the monotonic instant ``mono_ns``.

        A reading that is older than one that was taken in before says nothing new, and is left out.
        """
        offset_ns = wall_ns - mono_ns
        if not self._segments:
            self._calibrated_ns = mono_ns
            self._segments.append(_Segment(mono_ns, offset_ns, wall_ns))
            return
        if mono_ns < self._calibrated_ns:
            return
        self._calibrated_ns = mono_ns
        last = self._segments[-1]
        step_ns = offset_ns - last.offset_ns
        if abs(step_ns) <= self._tolerance_ns:
            return
        start_ns = max(mono_ns, last.start_ns)
        if self._newest_ns is not None:
            start_ns = max(start_ns, self._newest_ns + 1)
        if step_ns < -self.FOLLOW_BACK_NS:
            self.steps_back += 1
            self._said_ns = None
            self._segments.append(_Segment(start_ns, offset_ns, start_ns + offset_ns, followed=True))
        else:
            self._go_on(start_ns, offset_ns)
        del self._segments[: -self.KEEP]

    def _go_on(self, start_ns: int, offset_ns: int) -> None:
        """Convert by ``offset_ns`` from ``start_ns`` on, and never fall."""
        last = self._segments[-1]
        said_ns = last.wall_ns(start_ns) if self._said_ns is None else self._said_ns
        floor_ns = max(start_ns + offset_ns, said_ns)
        if floor_ns == last.floor_ns:
            # Time stands still before and after: one segment says so, or a frozen clock would fill the memory.
            last.offset_ns = offset_ns
            return
        for segment in reversed(self._segments):
            if segment.ceiling_ns <= floor_ns:
                break
            segment.ceiling_ns = floor_ns
            if segment.followed:
                break
        self._segments.append(_Segment(start_ns, offset_ns, floor_ns))

    def wall_ns(self, mono_ns: int) -> int:
        """Nanoseconds since the Unix epoch at ``mono_ns``; raises `LookupError` before the first calibration."""
        if not self._segments:
            raise LookupError("the wall clock has not been calibrated yet: call calibrate() first")
        at = bisect_right(self._segments, mono_ns, key=_start_ns) - 1
        if at < 0:  # before the first calibration there was no step that we know of
            first = self._segments[0]
            wall_ns = min(first.floor_ns - (first.start_ns - mono_ns), first.ceiling_ns)
        else:
            wall_ns = self._segments[at].wall_ns(mono_ns)
        if self._newest_ns is None or mono_ns > self._newest_ns:
            self._newest_ns, self._said_ns = mono_ns, wall_ns
        return wall_ns

    def mono_ns(self, wall_ns: int) -> int:
        """The monotonic instant of a recent wall-clock time, by the present calibration; `LookupError` before one."""
        if not self._segments:
            raise LookupError("the wall clock has not been calibrated yet: call calibrate() first")
        return wall_ns - self._segments[-1].offset_ns

    def read(self) -> None:
        """Calibrate with the machine's clocks.

        Of several readings the one with the least time between is taken: a thread that loses the processor in the
        middle of it would see a step where there is none.
        """
        best: tuple[int, int, int] | None = None
        for _ in range(self.TRIES):
            before_ns = time.monotonic_ns()
            wall_ns = time.time_ns()
            took_ns = time.monotonic_ns() - before_ns
            if best is None or took_ns < best[0]:
                best = took_ns, before_ns + took_ns // 2, wall_ns
            if took_ns <= self.QUICK_NS:
                break
        assert best is not None
        self.calibrate(best[1], best[2])


def _start_ns(segment: _Segment) -> int:
    return segment.start_ns


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def rfc3339(wall_ns: int) -> str:
    """Wall-clock nanoseconds as RFC 3339 in UTC with milliseconds, rounded down."""
    instant = _EPOCH + timedelta(milliseconds=wall_ns // MS)
    return instant.isoformat(timespec="milliseconds").replace("+00:00", "Z")
