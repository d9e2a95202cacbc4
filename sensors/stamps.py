"""When the world produced what a stream delivers: pure arithmetic on instants, no I/O.

`PtsMap` places a stream's presentation time stamps on our clock, `AudioClockFit` the samples of a sound card whose
crystal runs a little fast or slow.
"""

from __future__ import annotations

import math
from collections import deque

from agent.clock import MS, SECOND


class SlidingMin:
    """The least of the values seen within the last `window_ns`; amortised constant time per value."""

    def __init__(self, window_ns: int) -> None:
        self._window_ns = window_ns
        self._rising: deque[tuple[int, int]] = deque()

    def add(self, value: int, now_ns: int) -> int:
        """Take in `value`, seen at `now_ns` (which never falls), and return the least."""
        while self._rising and self._rising[-1][1] >= value:
            self._rising.pop()
        self._rising.append((now_ns, value))
        while self._rising[0][0] < now_ns - self._window_ns:
            self._rising.popleft()
        return self._rising[0][1]

    def clear(self) -> None:
        """Forget everything."""
        self._rising.clear()


class PtsMap:
    """Maps a stream's PTS onto our clock by the least of arrival − PTS over a sliding minute.

    The way through network and decoder only ever adds delay, so the quickest frame of the last minute shows best how
    the two clocks stand to one another. The result never exceeds the arrival and never falls while the arrivals do not.

    Some demuxers invent PTS by counting frames. Where the count runs slower than the clock, mapped stamps would fall
    ever further behind: if even the quickest of the last 5 s is more than `lag_ns` behind the quickest of the minute,
    the map starts again, and at the third time (`trusted` turns false) arrival is all that is left to go by.
    """

    DISTRUST_AFTER = 3

    def __init__(self, *, window_ns: int = 60 * SECOND, recent_ns: int = 5 * SECOND, lag_ns: int = SECOND):
        self._quickest = SlidingMin(window_ns)
        self._recent = SlidingMin(recent_ns)
        self._lag_ns = lag_ns
        self._last_pts_ns: int | None = None
        self._lagged = 0
        self.restarts = 0
        """How often the PTS jumped back or lagged, so that the map started again."""

    @property
    def trusted(self) -> bool:
        """Whether the PTS keep pace with the clock."""
        return self._lagged < self.DISTRUST_AFTER

    def stamp(self, pts_ns: int, arrival_ns: int) -> int:
        """The instant of the frame with `pts_ns` that came at `arrival_ns`, in ns on our clock."""
        if not self.trusted:
            return arrival_ns
        if self._last_pts_ns is not None and pts_ns < self._last_pts_ns:
            self._restart()
        self._last_pts_ns = pts_ns
        offset_ns = arrival_ns - pts_ns
        recent_ns = self._recent.add(offset_ns, arrival_ns)
        quickest_ns = self._quickest.add(offset_ns, arrival_ns)
        if recent_ns - quickest_ns > self._lag_ns:
            self._lagged += 1
            self._restart()
            return arrival_ns
        return pts_ns + quickest_ns

    def _restart(self) -> None:
        self.restarts += 1
        self._quickest.clear()
        self._recent.clear()


class AudioClockFit:
    """Places blocks of sound on our clock so that they neither overlap nor gap.

    A running linear fit, with exponential forgetting, of measured instants against the stream's own time (sample count
    over nominal rate, in ns). Its slope is the drift of the sound card's crystal, its residual the jitter of the
    measurements. The slope is pulled towards 0 by what crystals are known to do (±100 ppm against a jitter of some
    2 ms), so that the first seconds do not swing.
    """

    FORGET_S = 30.0
    RIDGE_S2 = (2e-3 / 100e-6) ** 2
    """Variance of the jitter over variance of the drift: the prior's weight in a Bayesian linear regression."""
    JUMP_NS = 50_000_000
    """A measurement further than this from the fit is an outlier…"""
    JUMP_AFTER = 5
    """…and this many in a row are a jump of the stream: one late callback must not move the time line."""

    def __init__(self) -> None:
        self.restarts = 0
        """How often the fit started again."""
        self._edge: tuple[int, int] | None = None
        self._clear()

    def _clear(self) -> None:
        self._base_ns: int | None = None
        self._at_ns = 0
        self._outliers = 0
        # Sums over (x, d), each weighted by its age: x in s, 0 at the newest measurement; d in ns, 0 at the first.
        self._w = self._x = self._d = self._xx = self._xd = 0.0

    @property
    def ready(self) -> bool:
        """Whether there was a measurement."""
        return self._base_ns is not None

    def restart(self) -> None:
        """Begin again with the next measurement: what was measured so far no longer holds."""
        self.restarts += 1
        self._clear()

    def observe(self, stream_ns: int, t_ns: int) -> bool:
        """Take in that stream time `stream_ns` was measured at `t_ns`; true when that made the fit start again."""
        jumped = False
        if self._base_ns is not None and abs(t_ns - self.at(stream_ns)) > self.JUMP_NS:
            self._outliers += 1
            if self._outliers < self.JUMP_AFTER:
                return False
            self.restart()
            jumped = True
        self._outliers = 0
        if self._base_ns is None:
            self._base_ns, self._at_ns = t_ns - stream_ns, stream_ns
        step = (stream_ns - self._at_ns) / SECOND
        self._at_ns = stream_ns
        forget = math.exp(-step / self.FORGET_S)
        self._xx = forget * (self._xx - 2 * step * self._x + step * step * self._w)
        self._xd = forget * (self._xd - step * self._d)
        self._x = forget * (self._x - step * self._w)
        self._w = forget * self._w + 1
        self._d = forget * self._d + (t_ns - stream_ns - self._base_ns)
        return jumped

    @property
    def drift(self) -> float:
        """How much slower the stream's clock runs than ours: 1e-6 is one ppm."""
        if self._w == 0:
            return 0.0
        spread = self._w * self._xx - self._x**2 + self.RIDGE_S2 * self._w
        return (self._w * self._xd - self._x * self._d) / spread / SECOND

    def at(self, stream_ns: int) -> int:
        """Our clock at stream time `stream_ns`. At least one measurement must have been taken in."""
        if self._base_ns is None:
            raise ValueError("no measurement yet")
        drift = self.drift
        now_d = (self._d - drift * SECOND * self._x) / self._w
        return stream_ns + self._base_ns + round(now_d + drift * (stream_ns - self._at_ns))

    def span(self, begin_ns: int, end_ns: int) -> tuple[int, int]:
        """Our clock at both ends of the block from stream time `begin_ns` to `end_ns`.

        A block that follows the last one begins where that one ended. Time never runs backwards: after a jump back,
        blocks last half their time until the fit has caught up.
        """
        start, stop = self.at(begin_ns), self.at(end_ns)
        if self._edge is not None:
            edge_begin, edge = self._edge
            contiguous = begin_ns == edge_begin and abs(start - edge) <= self.JUMP_NS
            start = edge if contiguous else max(start, edge)
        stop = max(stop, start + (end_ns - begin_ns) // 2)
        self._edge = end_ns, stop
        return start, stop


class DelayGuard:
    """Tells whether a sound system's word on its delay can be believed.

    The delay between converter and callback is a property of the device and its buffers. Sound servers claim up to
    half a second and more while a stream settles, which would put sound before it was made. So a claim is believed
    when the last `AGREE` of them agree within `SPREAD_NS` and are no longer than any device needs.
    """

    AGREE = 10
    SPREAD_NS = 30 * MS
    MOST_NS = 250 * MS
    """A Bluetooth headset's 200 ms included."""

    def __init__(self) -> None:
        self._claims: deque[int] = deque(maxlen=self.AGREE)

    @property
    def settled(self) -> bool:
        """Whether there were enough claims to judge by."""
        return len(self._claims) == self.AGREE

    def believes(self, delay_ns: int) -> bool:
        """Take in a claim, and judge."""
        self._claims.append(delay_ns)
        most_ns = max(self._claims)
        return self.settled and most_ns <= self.MOST_NS and most_ns - min(self._claims) <= self.SPREAD_NS
